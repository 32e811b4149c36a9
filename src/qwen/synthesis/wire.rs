//! What DashScope says of images, videos and tasks.

use serde_json::Value;

use crate::{Text, chat::AnswerKind};

/// How many addresses of one answer are taken.
const MOST: usize = 16;

/// A copy of an address, if it is one.
fn address(value: &Value) -> Option<Text> {
    let url = value.as_str()?.trim();
    (url.starts_with("https://") || url.starts_with("http://")).then(|| Text::from(url))
}

/// Where what was made is, by the `output` of an answer or of a task.
pub(super) fn made(output: &Value, kind: AnswerKind) -> Vec<Text> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let found: Vec<Value> = match kind {
        AnswerKind::Video => {
            [&output["video_url"], &output["results"]["video_url"]].into_iter().cloned().collect()
        }
        _ => {
            let of_tasks = list(&output["results"]).into_iter().map(|one| one["url"].clone());
            let of_answers = list(&output["choices"]).into_iter().flat_map(|choice| {
                list(&choice["message"]["content"]).into_iter().map(|part| part["image"].clone())
            });
            of_tasks.chain(of_answers).collect()
        }
    };
    found.iter().filter_map(address).take(MOST).collect()
}

/// What an answer says in the place of what was asked for.
pub(super) fn said(output: &Value) -> Option<String> {
    let choices = output["choices"].as_array()?;
    let parts = choices.iter().filter_map(|choice| choice["message"]["content"].as_array());
    let texts: Vec<&str> = parts.flatten().filter_map(|part| part["text"].as_str()).collect();
    Some(texts.concat()).filter(|text| !text.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_made_is_found_in_each_form() {
        use AnswerKind::{Image, Video};
        let a = "https://x.example/a";
        for (kind, output, count) in [
            (
                Image,
                json!({"choices": [{"message": {"content": [{"image": a}, {"text": "x"}]}}]}),
                1,
            ),
            (Image, json!({"results": [{"url": a}, {"code": "x", "message": "y"}, {"url": a}]}), 2),
            (Image, json!({"results": [{"url": "data:image/png"}]}), 0),
            (Image, json!({"results": vec![json!({"url": a}); 99]}), MOST),
            (Image, json!({"video_url": a}), 0),
            (Video, json!({"video_url": a, "orig_prompt": "x"}), 1),
            (Video, json!({"results": {"video_url": a}}), 1),
            (Video, json!({}), 0),
            (Image, json!(null), 0),
        ] {
            assert_eq!(made(&output, kind).len(), count, "{output}");
        }
        let said = said(&json!({"choices": [{"message": {"content": [{"text": "No."}]}}]}));
        assert_eq!(said.as_deref(), Some("No."));
    }
}
