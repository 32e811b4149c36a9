//! What a request asks for, as a digest (sans-I/O).

use sha2::{Digest as _, Sha256};

use crate::{
    Text,
    chat::{
        ChatRequest, Content, Destination, Extra, FunctionTool, Json, MediaOptions, Message, Part,
        PartKind, ReasoningOptions, ResponseFormat, Sampling, Tenant, Tool, ToolCall, ToolChoice,
    },
};

/// A digest that two requests have in common only if they ask for the very same, for one tenant. Not
/// part of it is what is made anew for each: the id of the answer, and whom it is asked as.
pub(super) fn digest(tenant: &Tenant, request: &ChatRequest) -> [u8; 32] {
    let ChatRequest {
        model,
        kind,
        history,
        destination,
        answer_id: _,
        tools,
        tools_changed,
        tool_choice,
        parallel_tool_calls,
        response_format,
        media,
        reasoning,
        sampling,
        user,
        tenant: _,
        account: _,
        credential: _,
        is_timed: _,
        has_calls_in_text: _,
        is_whole: _,
        extra,
    } = request;
    let mut hash = Hash(Sha256::new());
    hash.bytes(b"tower-qwen join 1");
    hash.bytes(tenant.digest());
    hash.text(model);
    hash.text(kind.as_str());
    hash.number(history.len());
    history.iter().for_each(|message| hash.message(message));
    match destination {
        Destination::NewChat { account } => {
            hash.tag(0);
            hash.some(account.as_ref().map(|account| account.as_str()));
        }
        Destination::Chat(place) => {
            hash.tag(1);
            hash.text(&place.chat_id);
            hash.some(place.parent_id.as_deref());
            hash.some(place.account.as_ref().map(|account| account.as_str()));
        }
        Destination::Answer { id } => {
            hash.tag(2);
            hash.text(id);
        }
    }
    hash.number(tools.len());
    tools.iter().for_each(|tool| hash.tool(tool));
    hash.flag(Some(*tools_changed));
    match tool_choice {
        None => hash.tag(0),
        Some(ToolChoice::Auto) => hash.tag(1),
        Some(ToolChoice::None) => hash.tag(2),
        Some(ToolChoice::Required) => hash.tag(3),
        Some(ToolChoice::Function(name)) => hash.tagged(4, name),
        Some(ToolChoice::Other(whole)) => hash.tagged(5, whole.as_str()),
    }
    hash.flag(*parallel_tool_calls);
    match response_format {
        None => hash.tag(0),
        Some(ResponseFormat::Text) => hash.tag(1),
        Some(ResponseFormat::JsonObject) => hash.tag(2),
        Some(ResponseFormat::JsonSchema(schema)) => hash.tagged(3, schema.as_str()),
        Some(ResponseFormat::Other(whole)) => hash.tagged(4, whole.as_str()),
    }
    let MediaOptions { size, seconds } = media;
    hash.some(size.map(|size| size.to_string()).as_deref());
    hash.whole(seconds.map(i128::from));
    let ReasoningOptions { effort, enabled, budget } = reasoning;
    hash.some(effort.as_ref().map(|effort| effort.as_str()));
    hash.flag(*enabled);
    hash.whole(budget.map(i128::from));
    let Sampling {
        max_tokens,
        max_completion_tokens,
        temperature,
        top_p,
        top_k,
        presence_penalty,
        frequency_penalty,
        repetition_penalty,
        seed,
        stop,
    } = sampling;
    for number in [max_tokens, max_completion_tokens, top_k] {
        hash.whole(number.map(i128::from));
    }
    hash.whole(*seed);
    for number in [temperature, top_p, presence_penalty, frequency_penalty, repetition_penalty] {
        hash.whole(number.map(|number| number.to_bits().into()));
    }
    hash.number(stop.len());
    stop.iter().for_each(|stop| hash.text(stop));
    hash.some(user.as_deref());
    hash.extra(extra);
    hash.0.finalize().into()
}

/// Fields one after the other, each with its length before it.
struct Hash(Sha256);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn tagged(&mut self, tag: u8, text: &str) {
        self.tag(tag);
        self.text(text);
    }

    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    fn some(&mut self, text: Option<&str>) {
        match text {
            None => self.tag(0),
            Some(text) => self.tagged(1, text),
        }
    }

    fn flag(&mut self, flag: Option<bool>) {
        self.tag(flag.map_or(2, u8::from));
    }

    fn whole(&mut self, number: Option<i128>) {
        self.tag(u8::from(number.is_some()));
        self.0.update(number.unwrap_or_default().to_le_bytes());
    }

    fn json(&mut self, json: Option<&Json>) {
        self.some(json.map(Json::as_str));
    }

    fn extra(&mut self, extra: &Extra) {
        self.text(extra.inside());
    }

    fn message(&mut self, message: &Message) {
        let Message {
            role,
            content,
            name,
            tool_calls,
            tool_call_id,
            reasoning,
            reasoning_signature,
            extra,
        } = message;
        self.text(role.as_str());
        match content {
            None => self.tag(0),
            Some(Content::Text(text)) => self.tagged(1, text),
            Some(Content::Parts(parts)) => {
                self.tag(2);
                self.number(parts.len());
                parts.iter().for_each(|part| self.part(part));
            }
        }
        self.number(tool_calls.len());
        for call in tool_calls {
            let ToolCall { id, name, arguments, extra, inner_extra } = call;
            [id, name, arguments].into_iter().for_each(|text| self.text(text));
            self.extra(extra);
            self.extra(inner_extra);
        }
        for text in [name, tool_call_id, reasoning, reasoning_signature] {
            self.some(text.as_deref());
        }
        self.extra(extra);
    }

    fn part(&mut self, part: &Part) {
        let Part { kind, cache_control, extra, inner_extra } = part;
        let mut texts = |tag: u8, texts: &[Option<&Text>]| {
            self.tag(tag);
            texts.iter().for_each(|text| self.some(text.map(Text::as_str)));
        };
        match kind {
            PartKind::Text(text) => texts(0, &[Some(text)]),
            PartKind::Refusal(text) => texts(1, &[Some(text)]),
            PartKind::Image { url, detail } => texts(2, &[Some(url), detail.as_ref()]),
            PartKind::Audio { data, format } => texts(3, &[Some(data), format.as_ref()]),
            PartKind::File { id, data, name } => {
                texts(4, &[id.as_ref(), data.as_ref(), name.as_ref()]);
            }
            PartKind::Video { url } => texts(5, &[Some(url)]),
            PartKind::ToolReference { name } => texts(6, &[Some(name)]),
            PartKind::Uploaded(file) => texts(8, &[Some(&file.id)]),
            PartKind::Other(whole) => {
                self.tag(7);
                self.extra(whole);
            }
        }
        self.json(cache_control.as_ref());
        self.extra(extra);
        self.extra(inner_extra);
    }

    fn tool(&mut self, tool: &Tool) {
        match tool {
            Tool::Other(whole) => self.tagged(0, whole.as_str()),
            Tool::Function(function) => {
                let FunctionTool {
                    name,
                    description,
                    parameters,
                    strict,
                    cache_control,
                    extra,
                    outer_extra,
                } = function;
                self.tagged(1, name);
                self.some(description.as_deref());
                self.json(parameters.as_ref());
                self.flag(*strict);
                self.json(cache_control.as_ref());
                self.extra(extra);
                self.extra(outer_extra);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Conversation, Role};

    const ANN: Tenant = Tenant::from_digest([1; 32]);

    fn request() -> ChatRequest {
        let mut call = Message::empty(Role::Assistant);
        call.tool_calls = vec![ToolCall::new("c", "f", "{}")];
        let messages = [Message::new(Role::User, "x"), call, Message::new(Role::Tool, "y")];
        let mut request = ChatRequest::new("m", messages);
        request.tools = vec![Tool::Function(FunctionTool::without_parameters("f"))].into();
        request
    }

    /// Each changes one thing that the answer may depend on.
    #[test]
    fn whatever_is_asked_for_counts() {
        type Change = fn(&mut ChatRequest);
        let changes: [(&str, Change); 27] = [
            ("model", |r| r.model = "n".into()),
            ("kind", |r| r.kind = crate::chat::AnswerKind::Search),
            ("one more message", |r| r.history.push(Message::new(Role::User, ""))),
            ("text", |r| {
                r.history.get_mut(0).expect("one").content = Some(Content::Text("z".into()))
            }),
            ("no text", |r| r.history.get_mut(0).expect("one").content = None),
            ("parts", |r| {
                r.history.get_mut(0).expect("one").content =
                    Some(Content::Parts(vec![Part::text("x")]));
            }),
            ("name", |r| r.history.get_mut(0).expect("one").name = Some("x".into())),
            ("thinking", |r| r.history.get_mut(1).expect("two").reasoning = Some("x".into())),
            ("signature", |r| {
                r.history.get_mut(1).expect("two").reasoning_signature = Some("x".into())
            }),
            ("arguments", |r| {
                r.history.get_mut(1).expect("two").tool_calls[0].arguments = "{ }".into()
            }),
            ("id of a call", |r| r.history.get_mut(1).expect("two").tool_calls[0].id = "d".into()),
            ("whose result", |r| {
                r.history.get_mut(2).expect("three").tool_call_id = Some("c".into())
            }),
            ("chat", |r| r.destination = Conversation::new("c").into()),
            ("answer", |r| r.destination = Destination::Answer { id: "r".into() }),
            ("tools", |r| r.tools = std::sync::Arc::default()),
            ("choice", |r| r.tool_choice = Some(ToolChoice::Auto)),
            ("one call", |r| r.parallel_tool_calls = Some(false)),
            ("form", |r| r.response_format = Some(ResponseFormat::JsonObject)),
            ("size", |r| r.media.size = crate::chat::MediaSize::parse("16:9")),
            ("seconds", |r| r.media.seconds = Some(5)),
            ("effort", |r| r.reasoning.enabled = Some(true)),
            ("budget", |r| r.reasoning.budget = Some(0)),
            ("limit", |r| r.sampling.max_tokens = Some(0)),
            ("temperature", |r| r.sampling.temperature = Some(0.0)),
            ("seed", |r| r.sampling.seed = Some(0)),
            ("stop", |r| r.sampling.stop = vec!["x".into()]),
            ("extra", |r| r.extra.insert("x", Json::parse("1").expect("JSON"))),
        ];
        let mut seen = vec![("nothing", digest(&ANN, &request()))];
        for (kind, change) in changes {
            let mut request = request();
            change(&mut request);
            let digest = digest(&ANN, &request);
            let same = seen.iter().find(|(_, other)| *other == digest);
            assert!(same.is_none(), "{kind} is the same as {same:?}");
            seen.push((kind, digest));
        }
        let other = Tenant::from_digest([2; 32]);
        assert_ne!(digest(&other, &request()), seen[0].1);
    }

    #[test]
    fn what_is_made_anew_does_not() {
        let mut again = request();
        again.answer_id = Some("resp_1".into());
        again.account = Some("ann".into());
        again.history.mark_seen(2);
        assert_eq!(digest(&ANN, &again), digest(&ANN, &request()));
    }
}
