//! Speech, transcriptions and reranking: sent on where a server has them, and else 501 with who has.

use super::*;

const FORM: &str = "multipart/form-data; boundary=XX";

fn form(model: &str) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n\
         --XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--XX--\r\n"
    )
}

async fn post(app: &App, path: &str, kind: &str, body: String) -> (u16, String, Vec<u8>) {
    let request = Request::post(path).header("content-type", kind).body(AxumBody::from(body));
    let response = app.clone().oneshot(request.expect("a request")).await.expect("infallible");
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    let status = response.status().as_u16();
    (status, kind, response.into_body().collect().await.expect("a body").to_bytes().into())
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn each_upstream_serves_what_it_has_and_names_who_has_the_rest() {
    for kind in Kind::ALL {
        let app = proxy(&["--emulate", kind.as_str()]);
        let model = kind.models()[0].clone();
        let rerank = json!({"model": model, "query": "a cat", "top_n": 1,
            "documents": ["a dog", "a black cat", "rain"]});
        let speech = json!({"model": model, "input": "Hi", "voice": "x"});
        let ranks = matches!(kind, Kind::Vllm | Kind::SgLang | Kind::LlamaCpp | Kind::DashScope);
        let is_vllm = kind == Kind::Vllm;
        for (path, content_type, body, is_there, code) in [
            ("/v1/rerank", "application/json", rerank.to_string(), ranks, "rerank"),
            ("/v1/audio/speech", "application/json", speech.to_string(), is_vllm, "speech"),
            ("/v1/audio/transcriptions", FORM, form(&model), is_vllm, "transcriptions"),
            ("/v1/audio/translations", FORM, form(&model), is_vllm, "translations"),
        ] {
            let (status, answered, body) = post(&app, path, content_type, body).await;
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(status, if is_there { 200 } else { 501 }, "{kind} {path}: {shown}");
            if !is_there {
                let error = &json_of(&body)["error"];
                assert_eq!(error["code"], format!("{code}_not_supported"), "{kind} {path}");
                let message = error["message"].as_str().expect("words");
                assert!(message.contains("vLLM"), "{kind} {path}: {message}");
                continue;
            }
            match code {
                "rerank" => {
                    let results = &json_of(&body)["results"];
                    assert_eq!(results.as_array().expect("a list").len(), 1, "{kind}: {shown}");
                    assert_eq!(results[0]["index"], 1, "{kind}: {shown}");
                }
                "speech" => {
                    assert_eq!(answered, "audio/wav");
                    assert!(body.starts_with(b"RIFF"), "{shown}");
                }
                _ => {
                    let said = format!("A recording in a form of {} bytes.", form(&model).len());
                    assert_eq!(json_of(&body)["text"], said);
                }
            }
        }
    }
}

/// What the server says of a request that it has the route for is the client's to read.
#[tokio::test(start_paused = true)]
async fn a_servers_own_refusal_stays() {
    let app = proxy(&["--emulate", "vllm"]);
    let none = json!({"model": "none", "query": "a", "documents": ["b"]}).to_string();
    let (status, _, body) = post(&app, "/v1/rerank", "application/json", none).await;
    assert_eq!(status, 404);
    assert!(String::from_utf8_lossy(&body).contains("`none`"), "it is the model that is not there");
    let (status, ..) = post(&app, "/v1/audio/transcriptions", FORM, "--XX--".into()).await;
    assert_eq!(status, 400);
    // Forms are for these routes alone.
    let (status, ..) = post(&app, "/v1/rerank", "image/png", "x".into()).await;
    assert_eq!(status, 415);
    let (status, ..) = post(&app, "/v1/chat/completions", FORM, form("m")).await;
    assert_eq!(status, 415);
    let get = Request::get("/v1/rerank").body(AxumBody::empty()).expect("a request");
    assert_eq!(app.oneshot(get).await.expect("infallible").status(), 405);
}

/// Of several upstreams the one is asked that has the model, though it stands in a form.
#[tokio::test(start_paused = true)]
async fn the_model_of_a_form_says_who_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let text = "[[upstream]]\nname = \"page\"\nemulate = \"web\"\n\
                [[upstream]]\nname = \"own\"\nemulate = \"vllm\"\nmodels = [\"Qwen/*\"]\n\
                [[alias]]\nname = \"whisper-1\"\nmodel = \"Qwen/Qwen3-32B\"\n";
    std::fs::write(&file, text).expect("written");
    let app = proxy(&["--config", file.to_str().expect("UTF-8")]);
    for (model, there) in [("Qwen/Qwen3-32B", 200), ("whisper-1", 200), ("qwen3-max", 501)] {
        let (status, _, body) = post(&app, "/v1/audio/transcriptions", FORM, form(model)).await;
        assert_eq!(status, there, "{model}: {}", String::from_utf8_lossy(&body));
    }
}
