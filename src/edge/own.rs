//! Letting a body go.

use std::sync::Arc;

use crate::{
    Text,
    chat::{
        ChatRequest, Content, Destination, Json, PartKind, ReasoningEffort, ResponseFormat, Tool,
        ToolChoice,
    },
};

/// Copies what of `request` is a slice of `body`, so that the body is let go: much memory is not
/// kept for the sake of little text.
pub(crate) fn own(request: &mut ChatRequest, body: &Text) {
    let range = body.as_bytes().as_ptr_range();
    let own = |text: &mut Text| {
        if range.contains(&text.as_ptr()) {
            *text = text.as_str().into();
        }
    };
    let some = |text: &mut Option<Text>| text.iter_mut().for_each(own);
    own(&mut request.model);
    some(&mut request.user);
    request.sampling.stop.iter_mut().for_each(own);
    if let Some(ReasoningEffort::Other(word)) = &mut request.reasoning.effort {
        own(word);
    }
    let json = |json: &mut Json| own(json.text_mut());
    match &mut request.destination {
        Destination::Chat(conversation) => {
            own(&mut conversation.chat_id);
            some(&mut conversation.parent_id);
        }
        Destination::Answer { id } => own(id),
        Destination::NewChat { .. } => {}
    }
    match &mut request.tool_choice {
        Some(ToolChoice::Function(name)) => own(name),
        Some(ToolChoice::Other(choice)) => json(choice),
        _ => {}
    }
    if let Some(ResponseFormat::JsonSchema(format) | ResponseFormat::Other(format)) =
        &mut request.response_format
    {
        json(format);
    }
    // What is in an `Extra` is a copy anyway, unless it is a part as a whole.
    for tool in Arc::make_mut(&mut request.tools) {
        match tool {
            Tool::Other(whole) => json(whole),
            Tool::Function(function) => {
                own(&mut function.name);
                some(&mut function.description);
                function.parameters.iter_mut().for_each(json);
                function.cache_control.iter_mut().for_each(json);
            }
        }
    }
    for index in 0..request.history.len() {
        let Some(message) = request.history.get_mut(index) else { continue };
        for text in [
            &mut message.name,
            &mut message.tool_call_id,
            &mut message.reasoning,
            &mut message.reasoning_signature,
        ] {
            some(text);
        }
        for call in &mut message.tool_calls {
            for text in [&mut call.id, &mut call.name, &mut call.arguments] {
                own(text);
            }
        }
        let parts = match &mut message.content {
            None => continue,
            Some(Content::Text(text)) => {
                own(text);
                continue;
            }
            Some(Content::Parts(parts)) => parts,
        };
        for part in parts {
            part.cache_control.iter_mut().for_each(json);
            match &mut part.kind {
                PartKind::Text(text)
                | PartKind::Refusal(text)
                | PartKind::Video { url: text }
                | PartKind::ToolReference { name: text } => own(text),
                PartKind::Image { url: text, detail: more }
                | PartKind::Audio { data: text, format: more } => {
                    own(text);
                    some(more);
                }
                PartKind::File { id, data, name } => {
                    for text in [id, data, name] {
                        some(text);
                    }
                }
                // No edge makes it.
                PartKind::Uploaded(_) => {}
                PartKind::Other(whole) => own(whole.text_mut()),
            }
        }
    }
}
