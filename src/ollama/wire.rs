//! The JSON that clients of Ollama send, borrowed from the body.
//!
//! These types know the shape and nothing else; [`decode`](super::decode) gives them a meaning. Of
//! fields that they do not name nothing is read: they are about the process that holds the weights.

use serde_json::value::RawValue;

use crate::{
    edge::{Integer, shape},
    json::Str,
};

shape! {
    /// The body of a request, of a chat or for a prompt.
    Request<'a> named {
        model: Str<'a>,
        messages: &'a RawValue,
        tools: &'a RawValue,
        prompt: &'a RawValue,
        system: &'a RawValue,
        images: &'a RawValue,
        suffix: Str<'a>,
        raw: bool,
        context: &'a RawValue,
        stream: bool,
        format: &'a RawValue,
        think: &'a RawValue,
        options: &'a RawValue,
        keep_alive: &'a RawValue,
        logprobs: bool,
        top_logprobs: Integer<i64>,
    }
}

shape! {
    /// A message.
    Message<'a> alone {
        role: Str<'a>,
        content: &'a RawValue,
        thinking: &'a RawValue,
        images: &'a RawValue,
        tool_calls: &'a RawValue,
        tool_name: Str<'a>,
        tool_call_id: Str<'a>,
        /// What `tool_name` was called before, and with OpenAI.
        name: Str<'a>,
    }
}

shape! {
    /// A call of an assistant's message.
    ToolCall<'a> alone {
        id: Str<'a>,
        function: Function<'a>,
    }
}

shape! {
    /// The function that is called.
    Function<'a> alone {
        name: Str<'a>,
        /// An object; from clients of OpenAI's API the JSON as a string.
        arguments: &'a RawValue,
    }
}

shape! {
    /// `options`.
    Options<'a> named {
        temperature: f64,
        top_p: f64,
        top_k: Integer<i64>,
        min_p: f64,
        seed: Integer<i128>,
        stop: &'a RawValue,
        num_predict: Integer<i64>,
        repeat_penalty: f64,
        presence_penalty: f64,
        frequency_penalty: f64,
    }
}
