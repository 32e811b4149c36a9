//! The JSON that clients of the Responses API send, borrowed from the body.
//!
//! These types know the shape and nothing else; [`decode`](super::decode) gives them a meaning. Of
//! fields that they do not name nothing is read.

use serde_json::value::RawValue;

use crate::{
    edge::{Integer, shape},
    json::Str,
};

shape! {
    /// The body of a request.
    Request<'a> named {
        model: Str<'a>,
        stream: bool,
        input: &'a RawValue,
        instructions: &'a RawValue,
        previous_response_id: &'a RawValue,
        store: &'a RawValue,
        conversation: &'a RawValue,
        background: bool,
        prompt: &'a RawValue,
        tools: &'a RawValue,
        tool_choice: &'a RawValue,
        parallel_tool_calls: bool,
        reasoning: &'a RawValue,
        text: &'a RawValue,
        include: &'a RawValue,
        max_output_tokens: Integer<i64>,
        temperature: f64,
        top_p: f64,
        truncation: Str<'a>,
        metadata: &'a RawValue,
        client_metadata: &'a RawValue,
        user: Str<'a>,
    }
}

shape! {
    /// An item of the input: the fields of every kind. What type a field has depends on the kind,
    /// so each is read where that is known.
    Item<'a> alone {
        kind as "type": Str<'a>,
        role: Str<'a>,
        content: &'a RawValue,
        text: &'a RawValue,
        id: &'a RawValue,
        call_id: &'a RawValue,
        name: &'a RawValue,
        namespace: &'a RawValue,
        arguments: &'a RawValue,
        input: &'a RawValue,
        action: &'a RawValue,
        operation: &'a RawValue,
        output: &'a RawValue,
        summary: &'a RawValue,
        encrypted_content: &'a RawValue,
        tools: &'a RawValue,
    }
}

shape! {
    /// A part of an item's content.
    Part<'a> alone {
        kind as "type": Str<'a>,
        text: &'a RawValue,
        refusal: &'a RawValue,
        image_url: &'a RawValue,
        detail: Str<'a>,
        file_id: &'a RawValue,
        file_data: &'a RawValue,
        file_url: &'a RawValue,
        filename: &'a RawValue,
        input_audio: Audio<'a>,
    }
}

shape! {
    /// `input_audio`.
    Audio<'a> alone {
        data: Str<'a>,
        format: Str<'a>,
    }
}

shape! {
    /// A tool on offer.
    Tool<'a> alone {
        kind as "type": Str<'a>,
        name: Str<'a>,
        description: &'a RawValue,
        parameters: &'a RawValue,
        strict: bool,
        format: &'a RawValue,
        tools: &'a RawValue,
        /// The inside of a function as the chat API has it.
        function: &'a RawValue,
    }
}

shape! {
    /// What the input of a custom tool looks like.
    ToolFormat<'a> alone {
        kind as "type": Str<'a>,
        syntax: Str<'a>,
        definition: &'a RawValue,
    }
}

shape! {
    /// `tool_choice`, or a tool that it allows.
    ToolChoice<'a> alone {
        kind as "type": Str<'a>,
        name: Str<'a>,
        namespace: Str<'a>,
        mode: Str<'a>,
        tools: &'a RawValue,
    }
}

shape! {
    /// What a call of `local_shell` does.
    ShellAction<'a> alone {
        command: &'a RawValue,
        working_directory: &'a RawValue,
        timeout_ms: &'a RawValue,
    }
}

shape! {
    /// `reasoning`.
    Reasoning<'a> alone {
        effort: Str<'a>,
        summary: Str<'a>,
        generate_summary: Str<'a>,
    }
}

shape! {
    /// `text`.
    TextOptions<'a> alone {
        format: &'a RawValue,
    }
}

shape! {
    /// `text.format`.
    Format<'a> alone {
        kind as "type": Str<'a>,
        name: &'a RawValue,
        description: &'a RawValue,
        schema: &'a RawValue,
        strict: &'a RawValue,
    }
}
