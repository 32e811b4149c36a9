//! Prompts to go on writing, as autocomplete of editors sends them: `POST /v1/completions`.
//!
//! A server that has the route gets the prompt as it is. Where it has no `suffix`, the text behind
//! the cursor goes into the prompt, between the control tokens of Qwen's coder models
//! ([edges D](../../docs/reference/edges.md#d-legacy-completions-for-autocomplete-fim)). Only where
//! nobody has the route, a prompt is answered as a chat.

use axum::{
    body::Body,
    extract::Request,
    http::Method,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tower::{ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{Extra, Json},
    edge::{self, BodyPace, read_body},
    openai::error_response,
    qwen::compatible::Server,
};

use super::{
    config::{Completions, ModelNames, fields},
    lanes::{MAX_BODY, Route},
};

/// Coder models of others, which were trained with tokens of their own.
const OF_OTHERS: [&str; 6] =
    ["deepseek", "starcoder", "wizardcoder", "opencoder", "yi-coder", "seed-coder"];

/// Whether `model` is one of Qwen's that fill in between two texts.
fn is_coder(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    model.contains("coder") && !OF_OTHERS.iter().any(|other| model.contains(other))
}

/// Whether DashScope has the route for `model`: it names these, in its region of Beijing.
fn is_completed_by_dashscope(model: &str) -> bool {
    ["qwen-coder", "qwen2.5-coder"].iter().any(|start| model.starts_with(start))
}

/// What becomes of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It goes to the server as it is, and so does its `suffix`.
    Raw,
    /// It goes to the server as it is; with a `suffix` both are written as one prompt, if the model
    /// is known to read that.
    Tokens { reads: bool },
    /// It is answered as a chat.
    Chat,
}

/// What becomes of prompts over one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Prompts {
    server: Server,
    completions: Completions,
    names: ModelNames,
    body_pace: BodyPace,
}

impl Prompts {
    /// Of what a server of this kind gets.
    pub(crate) fn new(server: Server, completions: Completions) -> Self {
        Self { server, completions, names: ModelNames::default(), body_pace: BodyPace::new() }
    }

    /// By which other names models are asked for.
    pub(crate) fn names(self, names: ModelNames) -> Self {
        Self { names, ..self }
    }

    /// How fast the bodies of requests must come.
    pub(crate) fn body_pace(self, body_pace: BodyPace) -> Self {
        Self { body_pace, ..self }
    }

    /// Sends what is a chat to `chat`, and the rest to `bytes`.
    pub(crate) fn over(self, chat: Route, bytes: Route) -> Route {
        match self.completions {
            Completions::Raw => return bytes,
            Completions::Chat => return chat,
            Completions::Auto | Completions::Fim => {}
        }
        Route::new(service_fn(move |request: Request| {
            let (this, chat, bytes) = (self.clone(), chat.clone(), bytes.clone());
            async move {
                match this.choose(request).await {
                    Ok((Form::Chat, request)) => chat.oneshot(request).await,
                    Ok((_, request)) => bytes.oneshot(request).await,
                    Err(error) => Ok::<Response, _>(error_response(&error).into_response()),
                }
            }
        }))
    }

    /// # Errors
    ///
    /// For a body that does not come or cannot be read, and for a `suffix` that this upstream could
    /// not be told.
    async fn choose(&self, request: Request) -> Result<(Form, Request), Error> {
        // It is refused below in its own words.
        if request.method() != Method::POST {
            return Ok((Form::Raw, request));
        }
        let (head, body) = request.into_parts();
        edge::acceptable(&head)?;
        let mut body = read_body(body, MAX_BODY, Some(self.body_pace)).await?;
        let model = edge::model(&body)?.unwrap_or_default();
        let meant = self.names.resolve(&model);
        let form = self.form(meant.as_deref().unwrap_or(&model));
        if let Form::Tokens { reads } = form
            && let Some(filled) = filled(&body, reads)?
        {
            body = filled;
        }
        tracing::debug!(?form, "a prompt goes on");
        Ok((form, Request::from_parts(head, Body::from(body))))
    }

    fn form(&self, model: &str) -> Form {
        let reads = is_coder(model);
        match (self.completions, self.server) {
            (Completions::Raw, _) => Form::Raw,
            (Completions::Chat, _) => Form::Chat,
            (Completions::Fim, _) => Form::Tokens { reads: true },
            // The portal has no such route, and DashScope has it for some models.
            (Completions::Auto, Server::Portal) => Form::Chat,
            (Completions::Auto, Server::DashScope) if !is_completed_by_dashscope(model) => {
                Form::Chat
            }
            // Ollama's templates know where the suffix goes.
            (Completions::Auto, Server::Ollama) => Form::Raw,
            // vLLM and llama.cpp refuse a suffix, SGLang looks away, the others tell of none.
            (
                Completions::Auto,
                Server::DashScope
                | Server::Vllm
                | Server::SgLang
                | Server::LlamaCpp
                | Server::LmStudio,
            ) => Form::Tokens { reads },
            // Nobody knows what another one has.
            (Completions::Auto, _) => Form::Raw,
        }
    }
}

/// The body with its `suffix` in the prompt, or without one that is empty; `None` where it has none.
///
/// # Errors
///
/// Where there is a suffix and the model does not read such a prompt, or none can be made.
fn filled(body: &Bytes, reads: bool) -> Result<Option<Bytes>, Error> {
    let Some(mut fields) = fields(body) else { return Ok(None) };
    // Some servers refuse it whatever it holds.
    let Some(suffix) = fields.remove("suffix") else { return Ok(None) };
    if !suffix.is_null() {
        let Some(suffix) = suffix.as_string() else {
            return Err(refused("suffix", "a `suffix` is a text"));
        };
        if !suffix.is_empty() {
            fill(&mut fields, &suffix, reads)?;
        }
    }
    Ok(Some(Json::from(&fields).to_string().into()))
}

fn fill(fields: &mut Extra, suffix: &str, reads: bool) -> Result<(), Error> {
    if !reads {
        return Err(refused(
            "suffix",
            "this server has no `suffix`, and only models with `coder` in their name are known to \
             read one that is written into the prompt; ask for such a model, or start the proxy \
             with `--completions fim` where this one does, or with `--completions raw` where the \
             server takes a `suffix`",
        ));
    }
    if fields.get("echo").and_then(|echo| echo.as_bool()) == Some(true) {
        return Err(refused(
            "echo",
            "a prompt with a `suffix` cannot be repeated; leave out `echo`",
        ));
    }
    let prompt = fields.get("prompt").map(|prompt| prompt.to_value()).transpose();
    let one = |prompt: &str| {
        serde_json::Value::from(format!(
            "<|fim_prefix|>{prompt}<|fim_suffix|>{suffix}<|fim_middle|>"
        ))
    };
    let prompt = match prompt {
        Ok(Some(serde_json::Value::String(prompt))) => Some(one(&prompt)),
        Ok(Some(serde_json::Value::Array(prompts))) if !prompts.is_empty() => {
            prompts.iter().map(|prompt| prompt.as_str().map(one)).collect()
        }
        // It is an empty one.
        Ok(None | Some(serde_json::Value::Null)) => Some(one("")),
        Ok(Some(_)) | Err(_) => None,
    };
    let prompt =
        prompt.ok_or_else(|| refused("prompt", "with a `suffix` a prompt is a text, no tokens"))?;
    fields.insert("prompt", prompt);
    Ok(())
}

fn refused(param: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message).with_param(param)
}

#[cfg(test)]
mod tests;
