//! What the client asks for.

use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use serde_json::value::RawValue;

use super::config::Task;
use crate::{
    Error, Text,
    chat::{ChatRequest, Content, Extra, MediaSize, Message, Part, Role},
    edge::{
        self, Integer, acceptable_as, check_model,
        parse::{self, clip, invalid_value, missing, too_many, unsupported},
        shape,
    },
    json::Str,
    openai::form::{self, Field},
};

/// How many pictures a request may ask for, as at OpenAI.
const MOST: u32 = 10;

/// How many pictures a request may bring along, as at OpenAI.
const MOST_SOURCES: usize = 16;

/// How the client wants its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Where they are.
    Url,
    /// Themselves, in base64.
    Base64,
}

/// A request for pictures.
#[derive(Debug)]
pub(crate) struct MediaRequest {
    /// What each of them is asked for with.
    pub(crate) chat: ChatRequest,
    pub(crate) count: usize,
    pub(super) form: Form,
    pub(super) stream: bool,
}

shape! {
    /// The body of a request in JSON.
    Wire<'a> {
        model: Str<'a>,
        prompt: Str<'a>,
        n: Integer<u32>,
        size: Str<'a>,
        response_format: Str<'a>,
        stream: bool,
        user: Str<'a>,
        image: &'a RawValue,
        images: &'a RawValue,
        mask: &'a RawValue,
        input_reference: &'a RawValue,
        image_url: &'a RawValue,
        seconds: &'a RawValue,
        duration: &'a RawValue,
    }
}

/// The model that the body of a request for images or videos asks for, be it JSON or a form;
/// `None` where it names none.
///
/// It is for whoever chooses by the model which stack a request goes to, as
/// [`edge::model`](crate::edge::model()) is for JSON alone. The whole body is read.
///
/// # Errors
///
/// Those of the [edge](super::MediaLayer), for a body that it could not read either.
pub async fn model(headers: &HeaderMap, body: &Bytes) -> Result<Option<String>, Error> {
    let Some(boundary) = form::boundary(headers) else { return edge::model(body) };
    let mut form = form::read(body.clone(), boundary?).await?.into_iter();
    let model = form.rfind(|(name, _)| name == "model");
    Ok(model.and_then(|(_, field)| match field {
        Field::Text(model) if !model.trim_ascii().is_empty() => Some(model.as_str().to_owned()),
        _ => None,
    }))
}

/// The fields of a request, whatever they came in.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(super) model: Option<Text>,
    pub(super) prompt: Option<Text>,
    pub(super) n: Option<u32>,
    pub(super) size: Option<Text>,
    /// How long a video is.
    pub(super) seconds: Option<Text>,
    pub(super) response_format: Option<Text>,
    pub(super) stream: bool,
    pub(super) user: Option<Text>,
    /// Where the pictures are that come along.
    pub(super) images: Vec<Text>,
    pub(super) has_mask: bool,
    pub(super) extra: Extra,
}

impl Fields {
    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn json(body: &Text) -> Result<Self, Error> {
        let wire: Wire<'_> = parse::json(body)?;
        let text = |word: Option<Str<'_>>| word.map(|word| Text::from(&*word.0));
        let mut images = Vec::new();
        for (name, value) in [
            ("image", wire.image),
            ("images", wire.images),
            ("input_reference", wire.input_reference),
            ("image_url", wire.image_url),
        ] {
            if let Some(value) = value {
                sources(value, name, &mut images)?;
            }
        }
        Ok(Self {
            model: text(wire.model),
            prompt: text(wire.prompt),
            n: wire.n.map(|Integer(n)| n),
            size: text(wire.size),
            // A string at OpenAI, a number elsewhere.
            seconds: wire.seconds.or(wire.duration).map(|raw| raw.get().trim_matches('"').into()),
            response_format: text(wire.response_format),
            stream: wire.stream.unwrap_or(false),
            user: text(wire.user),
            images,
            has_mask: wire.mask.is_some(),
            extra: wire.extra.finish(),
        })
    }

    /// How the body of a request is to be read, by its head: with a boundary where it is a form.
    ///
    /// # Errors
    ///
    /// Where it cannot be served.
    pub(crate) fn form(parts: &Parts) -> Result<Option<String>, Error> {
        acceptable_as(parts, true)?;
        form::boundary(&parts.headers).transpose()
    }

    /// Reads a body: a form with this boundary, or else JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) async fn read(body: Bytes, boundary: Option<String>) -> Result<Self, Error> {
        match boundary {
            None => Self::json(&parse::text(&body)?),
            Some(boundary) => Self::of_form(form::read(body, boundary).await?),
        }
    }

    /// Reads the fields of a form.
    fn of_form(form: Vec<(String, Field)>) -> Result<Self, Error> {
        let mut fields = Self::default();
        for (name, field) in form {
            let name = name.as_str();
            let text = match field {
                // Empty ones are what is left of a client's own form.
                Field::Text(text) if text.trim_ascii().is_empty() && name != "prompt" => continue,
                Field::Text(text) => text,
                Field::Image(url) => match name {
                    "image" | "images" | "input_reference" => {
                        fields.images.push(url);
                        continue;
                    }
                    "mask" => {
                        fields.has_mask = true;
                        continue;
                    }
                    _ => return Err(invalid_value(name.to_owned(), "it is no file")),
                },
            };
            let number = || {
                let parsed = text.trim().parse::<u32>();
                parsed.map_err(|_| invalid_value(name.to_owned(), "it is no whole number"))
            };
            match name {
                "model" => fields.model = Some(text),
                "prompt" => fields.prompt = Some(text),
                "n" => fields.n = Some(number()?),
                "size" => fields.size = Some(text),
                "seconds" | "duration" => fields.seconds = Some(text),
                "response_format" => fields.response_format = Some(text),
                "user" => fields.user = Some(text),
                "stream" => {
                    fields.stream = text.trim().parse().map_err(|_| {
                        invalid_value(name.to_owned(), "it is neither true nor false")
                    })?;
                }
                "image" | "images" | "input_reference" | "image_url" => fields.images.push(text),
                "mask" => fields.has_mask = true,
                // A form has no types: what is a number or a word of JSON's is taken for one.
                _ => match crate::chat::Json::parse(text.clone()) {
                    Ok(json) => fields.extra.insert(name, json),
                    Err(_) => fields.extra.insert(name, serde_json::Value::from(text.as_str())),
                },
            }
        }
        Ok(fields)
    }

    /// The request that these are, for what is named where they name no model.
    ///
    /// # Errors
    ///
    /// Names a field that is missing, or that nobody could honour.
    pub(crate) fn request(
        self,
        task: Task,
        default_model: Option<&Text>,
    ) -> Result<MediaRequest, Error> {
        let Self { images, extra, user, stream, .. } = self;
        let model = self.model.filter(|model| !model.trim_ascii().is_empty());
        let model = model.or_else(|| default_model.cloned()).ok_or_else(|| missing("model"))?;
        check_model(&model)?;
        let prompt = self.prompt.filter(|prompt| !prompt.trim_ascii().is_empty());
        let prompt = prompt.ok_or_else(|| missing("prompt"))?;
        if self.has_mask {
            let message = "`mask`: no upstream here takes one; say in the prompt what shall change";
            return Err(unsupported("mask", message));
        }
        let word = |name: &str| {
            let value = extra.get(name)?;
            value.as_string().map(std::borrow::Cow::into_owned)
        };
        if word("background").as_deref() == Some("transparent") {
            let message = "`background`: no upstream here makes a transparent one; leave it out";
            return Err(unsupported("background", message));
        }
        match (task, images.len()) {
            (Task::Edit, 0) => return Err(missing("image")),
            (Task::Generate, 1..) => {
                let message = "`image`: pictures are changed at /v1/images/edits; post it there";
                return Err(unsupported("image", message));
            }
            (_, more) if more > MOST_SOURCES => {
                return Err(too_many("image", MOST_SOURCES, "pictures", "send fewer"));
            }
            _ => {}
        }
        let count = self.n.unwrap_or(1);
        if !(1..=MOST).contains(&count) {
            let message = format_args!("{count} is not from 1 to {MOST}");
            return Err(invalid_value("n", message));
        }
        let size = size(self.size.as_deref(), "size")?;
        let seconds = seconds(self.seconds.as_deref())?;
        let form = match self.response_format.as_deref() {
            Some("url") => Form::Url,
            Some("b64_json") => Form::Base64,
            // Of a stream OpenAI's clients read nothing else.
            None if stream && task != Task::Video => Form::Base64,
            None => Form::Url,
            Some(other) => {
                return Err(invalid_value(
                    "response_format",
                    format_args!("`{}` is none of url, b64_json", clip(other)),
                ));
            }
        };
        let mut message = Message::new(Role::User, prompt.clone());
        if !images.is_empty() {
            let parts = [Part::text(prompt)].into_iter().chain(images.into_iter().map(Part::image));
            message.content = Some(Content::Parts(parts.collect()));
        }
        let mut chat = ChatRequest::new(model, [message]);
        chat.kind = task.kind();
        chat.media.size = size;
        chat.media.seconds = seconds;
        chat.user = user;
        chat.extra = extra;
        Ok(MediaRequest { chat, count: count as usize, form, stream })
    }
}

/// The size that `word` says, if it says one.
///
/// # Errors
///
/// Where it is none that can be read; it is called `param`.
pub(crate) fn size(word: Option<&str>, param: &'static str) -> Result<Option<MediaSize>, Error> {
    match word.map(str::trim).filter(|word| !word.is_empty() && *word != "auto") {
        None => Ok(None),
        Some(word) => MediaSize::parse(word).map(Some).ok_or_else(|| {
            let most = MediaSize::MAX;
            let message = format!(
                "`{}` is no size such as 1024x1024 or 16:9, with sides of up to {most}",
                clip(word)
            );
            invalid_value(param, message)
        }),
    }
}

/// How long a video shall be.
///
/// # Errors
///
/// Where that is no whole number of seconds, from 1 to 600.
fn seconds(word: Option<&str>) -> Result<Option<u32>, Error> {
    let Some(word) = word.map(str::trim).filter(|word| !word.is_empty() && *word != "auto") else {
        return Ok(None);
    };
    let number = word.strip_suffix(".0").unwrap_or(word).parse().ok();
    number.filter(|number| (1..=600).contains(number)).map(Some).ok_or_else(|| {
        let word = clip(word);
        invalid_value("seconds", format_args!("`{word}` is no whole number from 1 to 600"))
    })
}

/// Where the pictures are that `raw` names: a string, an object around one, or a list of these.
pub(crate) fn sources(raw: &RawValue, param: &str, into: &mut Vec<Text>) -> Result<(), Error> {
    if raw.get().starts_with('[') {
        return parse::each(raw, param, |at, item: &RawValue| {
            source(item, format!("{param}[{at}]"), into)
        });
    }
    source(raw, param.to_owned(), into)
}

shape! {
    /// A picture as an object.
    Source<'a> {
        url: Str<'a>,
        image_url: &'a RawValue,
        file_id: Str<'a>,
    }
}

fn source(raw: &RawValue, param: String, into: &mut Vec<Text>) -> Result<(), Error> {
    if into.len() > MOST_SOURCES {
        return Err(too_many(param, MOST_SOURCES, "pictures", "send fewer"));
    }
    match raw.get().as_bytes().first() {
        Some(b'"') => {
            let Str(url) = parse::nested(raw, &param)?;
            if url.trim_ascii().is_empty() {
                return Err(invalid_value(param, "it is empty"));
            }
            into.push(Text::from(&*url));
            Ok(())
        }
        Some(b'{') => {
            let object: Source<'_> = parse::nested(raw, &param)?;
            match (object.url, object.image_url) {
                (Some(Str(url)), _) => {
                    into.push(Text::from(&*url));
                    Ok(())
                }
                (None, Some(inner)) if inner.get().starts_with(['"', '{']) => {
                    // `{"image_url": {"url": …}}`, and no deeper.
                    if inner.get().contains("image_url") && inner.get().starts_with('{') {
                        return Err(invalid_value(param, "it nests deeper than a picture does"));
                    }
                    source(inner, format!("{param}.image_url"), into)
                }
                _ if object.file_id.is_some() => Err(Error::invalid(
                    param,
                    "pictures by `file_id` are not served here; send a URL or a data: URL",
                )
                .with_code("unsupported_parameter")),
                _ => Err(invalid_value(param, "an object needs a `url` or an `image_url`")),
            }
        }
        _ => Err(parse::not_expected(raw, param, "a URL, an object with one, or a list of these")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(task: Task, body: &Value) -> Result<MediaRequest, Error> {
        Fields::json(&body.to_string().into())?.request(task, None)
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let body = json!({"model": "m", "prompt": "A fox", "n": 2.0, "size": "1792x1024",
            "response_format": "b64_json", "user": "ann", "quality": "high", "seed": 7});
        let request = read(Task::Generate, &body).expect("valid");
        assert_eq!((request.count, request.form, request.stream), (2, Form::Base64, false));
        let chat = request.chat;
        assert_eq!((chat.model.as_str(), chat.user.as_deref()), ("m", Some("ann")));
        assert_eq!(chat.history[0].text(), "A fox");
        assert_eq!(chat.media.size, Some(MediaSize::Pixels(1792, 1024)));
        let names: Vec<_> = chat.extra.iter().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["quality", "seed"]);

        for neutral in [json!({}), json!({"size": "auto", "n": null, "mask": null, "image": null})]
        {
            let mut body = json!({"model": "m", "prompt": "A fox"});
            for (name, value) in neutral.as_object().expect("object") {
                body[name] = value.clone();
            }
            let request = read(Task::Generate, &body).expect("valid");
            assert_eq!((request.count, request.form), (1, Form::Url));
            assert_eq!(request.chat.media.size, None);
        }
        let streamed = json!({"model": "m", "prompt": "A fox", "stream": true});
        let streamed = read(Task::Generate, &streamed).expect("valid");
        assert_eq!((streamed.stream, streamed.form), (true, Form::Base64));
    }

    /// Pictures that come along, in the forms in which clients send them.
    #[test]
    fn pictures_come_along_in_several_forms() {
        let (a, b) = ("https://x.example/a.png", "data:image/png;base64,AA==");
        for (field, value, found) in [
            ("image", json!(a), &[a][..]),
            ("image", json!([a, b]), &[a, b]),
            ("image", json!({"url": a}), &[a]),
            ("image", json!({"image_url": a}), &[a]),
            ("image", json!({"type": "image_url", "image_url": {"url": b}}), &[b]),
            ("images", json!([{"image_url": a}, {"image_url": b}]), &[a, b]),
            ("images", json!([a]), &[a]),
        ] {
            let body = json!({"model": "m", "prompt": "A fox", field: value});
            let request = read(Task::Edit, &body).expect("valid");
            let message = &request.chat.history[0];
            let media = message.content.as_ref().expect("parts").media();
            let urls: Vec<_> = media
                .map(|part| match &part.kind {
                    crate::chat::PartKind::Image { url, .. } => url.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!((urls, &*message.text()), (found.to_vec(), "A fox"), "{body}");
        }
    }

    /// What cannot be honoured is refused, and the field is named.
    #[test]
    fn what_nobody_could_honour_is_refused() {
        use Task::{Edit, Generate};
        let a = "https://x.example/a.png";
        for (task, field, value, param, code) in [
            (Generate, "prompt", json!(" "), "prompt", "missing_required_parameter"),
            (Generate, "prompt", json!(null), "prompt", "missing_required_parameter"),
            (Generate, "prompt", json!(["a"]), "prompt", "invalid_type"),
            (Generate, "model", json!(""), "model", "missing_required_parameter"),
            (Generate, "model", json!("x".repeat(999)), "model", "invalid_value"),
            (Generate, "n", json!(0), "n", "invalid_value"),
            (Generate, "n", json!(11), "n", "invalid_value"),
            (Generate, "n", json!("2"), "n", "invalid_type"),
            (Generate, "size", json!("large"), "size", "invalid_value"),
            (Generate, "response_format", json!("png"), "response_format", "invalid_value"),
            (Generate, "mask", json!(a), "mask", "unsupported_parameter"),
            (Generate, "image", json!(a), "image", "unsupported_parameter"),
            (Generate, "background", json!("transparent"), "background", "unsupported_parameter"),
            (Edit, "seed", json!(7), "image", "missing_required_parameter"),
            (Edit, "image", json!([]), "image", "missing_required_parameter"),
            (Edit, "image", json!(7), "image", "invalid_type"),
            (Edit, "image", json!([a, ""]), "image[1]", "invalid_value"),
            (Edit, "image", json!([{}]), "image[0]", "invalid_value"),
            (Edit, "images", json!([{"file_id": "f"}]), "images[0]", "unsupported_parameter"),
            (Edit, "image", json!(vec![a; 99]), "image[17]", "too_many"),
            (
                Edit,
                "image",
                json!({"image_url": {"image_url": {"image_url": a}}}),
                "image",
                "invalid_value",
            ),
        ] {
            let mut body = json!({"model": "m", "prompt": "A fox"});
            body[field] = value.clone();
            let error = read(task, &body).expect_err("refused");
            let case = format!("{task:?} {field}: {value} {error:?}");
            assert_eq!((error.param(), error.code()), (Some(param), Some(code)), "{case}");
            assert_eq!(error.status(), 400, "{case}");
        }
    }

    #[test]
    fn a_model_that_is_not_named_is_the_default() {
        let body = json!({"prompt": "A fox"}).to_string().into();
        let request = |default: Option<&Text>| {
            Fields::json(&body).expect("valid").request(Task::Generate, default)
        };
        assert_eq!(request(Some(&"m".into())).expect("valid").chat.model, "m");
        assert_eq!(request(None).expect_err("none").param(), Some("model"));
    }
}
