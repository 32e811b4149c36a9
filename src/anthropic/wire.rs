//! The JSON that clients of the Messages API send, borrowed from the body.
//!
//! These types know the shape and nothing else; [`decode`](super::decode) gives them a meaning. Of
//! fields that they do not name nothing is read: the clients send new ones all the time, and none
//! of the upstreams knows any.

use serde_json::value::RawValue;

use crate::{
    edge::{Integer, shape},
    json::Str,
};

shape! {
    /// The body of a request, but for its messages.
    Request<'a> named {
        model: Str<'a>,
        max_tokens: Integer<i64>,
        stream: bool,
        system: &'a RawValue,
        tools: &'a RawValue,
        tool_choice: &'a RawValue,
        temperature: f64,
        top_p: f64,
        top_k: Integer<i64>,
        stop_sequences: &'a RawValue,
        thinking: &'a RawValue,
        output_config: &'a RawValue,
        /// The form that the answer shall have, before that was in `output_config`.
        output_format: &'a RawValue,
        metadata: &'a RawValue,
    }
}

shape! {
    /// A message.
    Message<'a> alone {
        role: Str<'a>,
        content: &'a RawValue,
    }
}

shape! {
    /// A block of a message's content: the fields of every kind. What type a field has depends on
    /// the kind, so each is read where that is known.
    Block<'a> alone {
        kind as "type": Str<'a>,
        text: &'a RawValue,
        source: &'a RawValue,
        title: &'a RawValue,
        context: &'a RawValue,
        id: &'a RawValue,
        name: &'a RawValue,
        input: &'a RawValue,
        tool_use_id: &'a RawValue,
        tool_name: &'a RawValue,
        tool: &'a RawValue,
        content: &'a RawValue,
        is_error: &'a RawValue,
        thinking: &'a RawValue,
        signature: &'a RawValue,
        cache_control: &'a RawValue,
    }
}

shape! {
    /// Where an image or a document is.
    Source<'a> alone {
        kind as "type": Str<'a>,
        media_type: Str<'a>,
        data: &'a RawValue,
        url: Str<'a>,
        content: &'a RawValue,
    }
}

shape! {
    /// A tool on offer: one of the client's own, or one that the vendor has given a schema.
    Tool<'a> alone {
        kind as "type": Str<'a>,
        name: Str<'a>,
        description: &'a RawValue,
        input_schema: &'a RawValue,
        strict: bool,
        cache_control: &'a RawValue,
    }
}

shape! {
    /// `tool_choice`.
    ToolChoice<'a> alone {
        kind as "type": Str<'a>,
        name: Str<'a>,
        disable_parallel_tool_use: bool,
    }
}

shape! {
    /// `thinking`.
    Thinking<'a> alone {
        kind as "type": Str<'a>,
        budget_tokens: Integer<i64>,
        display: Str<'a>,
    }
}

shape! {
    /// `output_config`.
    OutputConfig<'a> alone {
        effort: Str<'a>,
        format: &'a RawValue,
    }
}

shape! {
    /// `output_config.format`.
    Format<'a> alone {
        kind as "type": Str<'a>,
        schema: &'a RawValue,
    }
}

shape! {
    /// `metadata`.
    Metadata<'a> alone {
        user_id: Str<'a>,
    }
}
