//! Errors keep their meaning.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_qwen::{Error, ErrorKind, openai::error_response, qwen::compatible::Server};

use crate::wires::{Given, compatible, web};

/// The kind, and the status and code that a client is given.
async fn told(error: &Error) -> (ErrorKind, u16, Value) {
    let response = error_response(error);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("infallible").to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    (error.kind(), status, body["error"]["code"].clone())
}

async fn refused(server: Server, given: Given) -> Error {
    compatible(server, given).await.expect_err("refused")
}

/// Of whom, the status, the body, all as they were seen.
#[rustfmt::skip]
const TOO_LONG: &[(&str, Server, u16, &str)] = &[
    ("vLLM", Server::Vllm, 400, r#"{"object":"error","message":"This model's maximum context length is 8192 tokens. However, you requested 9000 tokens in the messages, Please reduce the length of the messages.","type":"BadRequestError","param":null,"code":400}"#),
    ("vLLM, wrapped", Server::Vllm, 400, r#"{"error":{"message":"You passed 9001 input tokens and requested 1 output tokens. However, the model's context length is only 8192 tokens, resulting in a maximum input length of 8191 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}"#),
    ("vLLM, the engine's words", Server::Vllm, 400, r#"{"error":{"message":"The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens.","type":"BadRequestError","code":400}}"#),
    ("vLLM, with max_tokens", Server::Vllm, 400, r#"{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 tokens and your request has 5000 input tokens (4096 > 8192 - 5000).","code":400}}"#),
    ("vLLM, behind a gateway", Server::Generic, 500, r#"{"error":{"message":"litellm.ContextWindowExceededError: BadRequestError: This model's maximum context length is 8192 tokens.","code":"500"}}"#),
    ("SGLang", Server::SgLang, 400, r#"{"object":"error","message":"The input (9000 tokens) is longer than the model's context length (8192 tokens).","type":"BadRequestError","code":400}"#),
    ("SGLang, with max_tokens", Server::SgLang, 400, r#"{"object":"error","message":"Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9100 tokens: 9000 tokens from the input messages and 100 tokens for the completion.","code":400}"#),
    ("SGLang, allowed length", Server::SgLang, 400, r#"{"object":"error","message":"Input length (9000 tokens) exceeds the maximum allowed length (8186 tokens). Use a shorter input or enable --allow-auto-truncate.","code":400}"#),
    ("SGLang, images", Server::SgLang, 400, r#"{"error":{"message":"Multimodal prompt is too long after expanding multimodal tokens. After expanding len(req.origin_input_ids_unpadded)=9000 => 9000 >= 8186.","code":400}}"#),
    ("GLM's words", Server::Generic, 400, r#"{"error":{"message":"Prompt exceeds max length","code":"1261"}}"#),
    ("a hosted model that sees", Server::Generic, 400, r#"{"error":{"message":"Total tokens of image and text exceed max message tokens","type":"invalid_request_error"}}"#),
    ("Bedrock, behind a gateway", Server::Generic, 400, r#"{"error":{"message":"too many total text bytes: 1048577 > 1048576","type":"invalid_request_error"}}"#),
    ("llama.cpp", Server::LlamaCpp, 400, r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}"#),
    ("llama.cpp, with numbers", Server::LlamaCpp, 400, r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error"}}"#),
    ("llama.cpp, old", Server::LlamaCpp, 500, r#"{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"invalid_request_error"}}"#),
    ("llama.cpp, batch", Server::LlamaCpp, 500, r#"{"error":{"code":500,"message":"input is too large to process. increase the physical batch size (current batch size: 512, tokens: 9000)","type":"server_error"}}"#),
    ("llama.cpp, while it writes", Server::LlamaCpp, 500, r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#),
    ("Ollama", Server::Ollama, 400, r#"{"error":{"message":"the input length exceeds the context length","type":"invalid_request_error","param":null,"code":null}}"#),
    ("Ollama, prompt", Server::Ollama, 400, r#"{"error":"prompt too long; exceeded max context length by 808 tokens"}"#),
    ("LM Studio", Server::Generic, 400, r#"{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough. Try to load the model with a larger context length, or provide a shorter input"}"#),
    ("LM Studio, kept tokens", Server::Generic, 400, r#"{"error":{"message":"The number of tokens to keep from the initial prompt is greater than the context length. Try to load the model with a larger context length, or provide a shorter input"}}"#),
    ("LM Studio, full", Server::Generic, 400, r#"{"error":"Reached context length of 4096 tokens with this model, which does not currently support mid-generation context overflow."}"#),
    ("DashScope", Server::DashScope, 400, r#"{"error":{"code":"invalid_parameter_error","param":null,"message":"Range of input length should be [1, 129024]","type":"invalid_request_error"}}"#),
    ("DashScope, algorithm", Server::DashScope, 400, r#"{"error":{"code":"invalid_parameter_error","message":"<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 258048]"}}"#),
    ("DashScope, native", Server::DashScope, 400, r#"{"code":"InvalidParameter","message":"Input length exceeds the maximum number of tokens 30720","request_id":"r"}"#),
    ("MLX", Server::Generic, 400, r#"{"error":"Prompt length 9000 exceeds max_kv_size 8192"}"#),
    ("MLX, a server on it", Server::Generic, 413, r#"{"detail":"Prompt too long: 9000 tokens exceeds maximum of 8192 tokens"}"#),
    ("MLX, which answers everything with 404", Server::Generic, 404, r#"{"error":"Prompt of 9000 tokens exceeds the model's max context of 8192"}"#),
    ("another server with 404", Server::Generic, 404, r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your prompt has 9000."}}"#),
    ("MLX, memory", Server::Generic, 400, r#"{"error":{"message":"Prompt has 90000 tokens which exceeds the model context window of 40960","type":"invalid_request_error"}}"#),
    ("TGI", Server::Generic, 422, r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`","error_type":"validation"}"#),
    ("TGI, less than", Server::Generic, 422, r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 5000","error_type":"validation"}"#),
    ("OpenAI", Server::Generic, 400, r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#),
    ("OpenAI, Responses", Server::Generic, 400, r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","code":"context_length_exceeded"}}"#),
    ("OpenAI, limit", Server::Generic, 400, r#"{"error":{"message":"Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.","code":null}}"#),
    ("Anthropic, through a gateway", Server::Generic, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 262462 tokens > 262144 maximum"}}"#),
    ("Bedrock", Server::Generic, 400, r#"{"message":"Input is too long for requested model."}"#),
    ("Vertex", Server::Generic, 400, r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#),
    ("OpenRouter", Server::Generic, 400, r#"{"error":{"message":"This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens","code":400}}"#),
    ("Copilot", Server::Generic, 400, r#"{"error":{"message":"prompt token count of 140000 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}"#),
    ("Baidu", Server::Generic, 400, r#"{"error_code":336007,"error_msg":"the max input characters is 20000 tokens; input too long"}"#),
    ("in a list of messages", Server::Generic, 400, r#"{"error":{"message":["prompt is too long: 9000 tokens exceed 8192"]}}"#),
    ("in upper case", Server::Generic, 400, r#"{"Error":{"Code":"InvalidParameter","Message":"Input length exceeds the maximum number of tokens 30720"}}"#),
    ("in Python's form", Server::Generic, 400, r#"{"error":{"message":"Error code: 400 - {'error': {'message': \"This model's maximum context length is 8192 tokens\", 'code': 400}}"}}"#),
    ("GitHub Models", Server::Generic, 413, r#"{"error":{"code":"tokens_limit_reached","message":"Request body too large for model. Max size: 8000 tokens."}}"#),
    ("a code alone", Server::Generic, 400, r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#),
    ("Together", Server::Generic, 422, r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 40000 `inputs` tokens","type":"invalid_request_error"}}"#),
    ("Cerebras", Server::Generic, 400, r#"{"message":"Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}"#),
    ("Groq", Server::Generic, 400, r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error"}}"#),
    ("in a list", Server::Generic, 400, r#"{"errors":[{"message":"prompt is too long: 9000 tokens exceed 8192"}]}"#),
    ("a list of one", Server::Generic, 400, r#"[{"error":{"message":"The input token count (9000) exceeds the maximum number of tokens allowed (8192).","status":"INVALID_ARGUMENT","code":400}}]"#),
    ("in a detail", Server::Generic, 400, r#"{"detail":{"error":{"message":"The prompt exceeds the context window"}}}"#),
    ("JSON in the words of a gateway", Server::Generic, 400, r#"{"error":{"message":"upstream: {\"error\":{\"message\":\"the request exceeds the available context size\"}}"}}"#),
    ("Zhipu", Server::Generic, 400, r#"{"error":{"code":"1261","message":"Prompt 超长"}}"#),
    ("Zhipu, other words", Server::Generic, 400, r#"{"error":{"code":"1261","message":"输入的prompt超长，请缩短后重试"}}"#),
    ("ModelScope", Server::Generic, 400, r#"{"error":{"message":"上下文长度超过模型最大限制"}}"#),
    ("ModelScope, the input", Server::Generic, 422, r#"{"error":{"message":"输入长度超出最大长度限制"}}"#),
    ("ModelScope, with status 500", Server::Generic, 500, r#"{"error":{"message":"上下文长度超过模型最大限制"}}"#),
    ("SiliconFlow", Server::Generic, 413, r#"{"code":20015,"message":"输入的 token 数量超过了模型支持的最大上下文长度","data":null}"#),
    ("SiliconFlow, length", Server::Generic, 400, r#"{"code":20015,"message":"length of prompt_tokens (40000) must be less than max_seq_len (32768).","data":null}"#),
    ("DashScope, in Chinese", Server::DashScope, 400, r#"{"error":{"code":"invalid_parameter_error","message":"输入长度范围应为[1, 30720]"}}"#),
    ("DashScope, tokens in Chinese", Server::DashScope, 400, r#"{"code":"InvalidParameter","message":"输入tokens数量超过模型上限，请缩短输入"}"#),
    ("DashScope, the conversation", Server::DashScope, 400, r#"{"code":"InvalidParameter","message":"对话历史过长，请精简后重试"}"#),
    ("Spark", Server::Generic, 400, r#"{"code":10907,"message":"token数量超过上限。对话历史+问题的字数太多，需要精简输入"}"#),
    ("Qianfan", Server::Generic, 400, r#"{"error":{"message":"上下文总长度超限"}}"#),
    ("Hunyuan", Server::Generic, 400, r#"{"error":{"message":"输入内容过长，请减少后重试"}}"#),
    ("a gateway in Chinese", Server::Generic, 400, r#"{"error":{"message":"请求的 tokens 总数超过模型最大长度"}}"#),
    ("a gateway, the window", Server::Generic, 400, r#"{"error":{"message":"已超出模型的上下文窗口"}}"#),
    ("a gateway, input and output", Server::Generic, 400, r#"{"error":{"message":"输入与输出的token总和大于模型最大长度"}}"#),
    ("a gateway, the messages", Server::Generic, 400, r#"{"error":{"message":"messages 内容总字数超出限制"}}"#),
    ("a gateway, the system prompt", Server::Generic, 400, r#"{"error":{"message":"提示词过长"}}"#),
    ("text of a gateway", Server::Generic, 400, "the conversation is too long: it does not fit into the context window"),
];

#[tokio::test]
async fn a_prompt_that_is_too_long_in_every_wording() {
    let expected = (ErrorKind::ContextLength, 400, json!("context_length_exceeded"));
    for &(kind, server, status, body) in TOO_LONG {
        let error = refused(server, Given::new(status, "application/json", body)).await;
        assert_eq!(told(&error).await, expected, "{kind}, with its status: {error}");
        if !body.starts_with('{') {
            continue;
        }
        // In the stream, in the place of the first event.
        let error = refused(server, Given::events(&[body, "[DONE]"])).await;
        assert_eq!(told(&error).await, expected, "{kind}, streamed: {error}");
        let marked = Given::new(status, "application/json", format!("\u{feff}{body}"));
        let error = refused(server, marked).await;
        assert_eq!(told(&error).await, expected, "{kind}, with a byte order mark: {error}");
        // The same with a good status, from a gateway.
        let error = refused(server, Given::new(200, "application/json", body)).await;
        assert_eq!(told(&error).await, expected, "{kind}, with status 200: {error}");
    }
    // chat.qwen.ai says it in an event, and in an envelope.
    for (kind, code, text) in [
        (
            "an event of the model's",
            "InternalError.Algo.InvalidParameter",
            "Range of input length should be [1, 258048]",
        ),
        ("words alone", "", "Range of input length should be [1, 258048]"),
        (
            "other words",
            "invalid_parameter_error",
            "The prompt is too long: 300000 tokens exceed the context window",
        ),
        ("words in Chinese", "", "输入长度超出最大长度限制"),
        ("other words in Chinese", "bad_request", "上下文长度超过模型最大限制"),
    ] {
        let event = json!({"error": {"code": code, "details": text}}).to_string();
        let error = web(Given::events(&[&event])).await.expect_err(kind);
        assert_eq!(told(&error).await, expected, "{kind}, streamed");
        let envelope = json!({"success": false, "data": {"code": code, "details": text}});
        let given = Given::new(200, "application/json", envelope.to_string());
        assert_eq!(told(&web(given).await.expect_err(kind)).await, expected, "{kind}, whole");
    }
}

/// What sounds alike and is something else.
#[tokio::test]
async fn limits_that_are_not_of_the_context() {
    #[rustfmt::skip]
    let rows = [
        ("tokens per minute", 429, r#"{"error":{"message":"Rate limit reached for model in organization on tokens per min (TPM): Limit 30000, Requested 40000.","code":"rate_limit_exceeded"}}"#, ErrorKind::RateLimited),
        ("a request beyond the tokens of a minute", 413, r#"{"error":{"message":"Request too large for model on tokens per minute (TPM): Limit 6000, Requested 9000","type":"tokens","code":"rate_limit_exceeded"}}"#, ErrorKind::RateLimited),
        ("a body that is too large", 413, r#"{"error":{"message":"Request Entity Too Large"}}"#, ErrorKind::TooLarge),
        ("max_tokens beyond the model's", 400, r#"{"error":{"message":"Range of max_tokens should be [1, 8192]","code":"invalid_parameter_error"}}"#, ErrorKind::InvalidRequest),
        ("max_tokens, other words", 400, r#"{"error":{"message":"max_tokens is too large: 99999. This model supports at most 16384 completion tokens"}}"#, ErrorKind::InvalidRequest),
        ("a name that is too long", 400, r#"{"error":{"message":"Invalid 'messages[0].name': string too long. Expected a string with maximum length 64, but got a string with length 70 instead."}}"#, ErrorKind::InvalidRequest),
        ("too many images", 400, r#"{"error":{"message":"At most 5 image(s) may be provided in one request."}}"#, ErrorKind::InvalidRequest),
        ("tokens per minute, in Chinese", 429, r#"{"error":{"message":"输入token数超过每分钟上限"}}"#, ErrorKind::RateLimited),
        ("tokens per minute, in Chinese, with 400", 400, r#"{"error":{"message":"模型每分钟token数超过限制"}}"#, ErrorKind::InvalidRequest),
        ("max_tokens, in Chinese", 400, r#"{"error":{"message":"max_tokens 超过最大限制"}}"#, ErrorKind::InvalidRequest),
        ("the length of the output, in Chinese", 400, r#"{"error":{"message":"模型输出长度超过最大限制"}}"#, ErrorKind::InvalidRequest),
        ("a name, in Chinese", 400, r#"{"error":{"message":"输入的函数名称长度超过64个字符"}}"#, ErrorKind::InvalidRequest),
        ("a description, in Chinese", 400, r#"{"error":{"message":"工具描述过长"}}"#, ErrorKind::InvalidRequest),
        ("images, in Chinese", 400, r#"{"error":{"message":"输入图片数量超过上限"}}"#, ErrorKind::InvalidRequest),
        ("how many messages, in Chinese", 400, r#"{"error":{"message":"消息数量超过上限"}}"#, ErrorKind::InvalidRequest),
        ("a body that is too large, in Chinese", 413, r#"{"error":{"message":"请求体长度超过限制"}}"#, ErrorKind::TooLarge),
        ("a token that is too old, in Chinese", 401, r#"{"error":{"message":"输入的token已超过有效期"}}"#, ErrorKind::Auth),
        ("a cache, in Chinese", 400, r#"{"error":{"message":"上下文缓存数量超过上限"}}"#, ErrorKind::InvalidRequest),
        ("a parameter, in Chinese", 400, r#"{"error":{"message":"输入参数超出范围"}}"#, ErrorKind::InvalidRequest),
        ("a model that is not there", 404, r#"{"error":{"message":"The model `x` with context length of only 8 tokens does not exist"}}"#, ErrorKind::ModelNotFound),
    ];
    for (kind, status, body, expected) in rows {
        let error = refused(Server::Generic, Given::new(status, "application/json", body)).await;
        assert_eq!(error.kind(), expected, "{kind}: {error}");
    }
}

/// Faults of the account are no fault of the request.
#[tokio::test]
async fn faults_of_the_account() {
    #[rustfmt::skip]
    let rows = [
        ("402", 402, r#"{"error":{"message":"x"}}"#),
        ("402 without words", 402, ""),
        ("402 with a page", 402, "<html>pay</html>"),
        ("DeepSeek", 402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#),
        ("OpenRouter", 402, r#"{"error":{"code":402,"message":"Insufficient credits. Add more using https://openrouter.ai/credits"}}"#),
        ("Anthropic, through a gateway", 400, r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API. Please go to Plans & Billing to upgrade or purchase credits."}}"#),
        ("DashScope, arrears", 400, r#"{"error":{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}}"#),
        ("DashScope, an overdue bill", 429, r#"{"error":{"code":"PrepaidBillOverdue","message":"The prepaid bill is overdue."}}"#),
        ("OpenAI, billing", 400, r#"{"error":{"code":"billing_hard_limit_reached","message":"Billing hard limit has been reached"}}"#),
        ("OpenAI, an account that is closed", 403, r#"{"error":{"code":"account_deactivated","message":"x"}}"#),
        ("SiliconFlow", 403, r#"{"code":30001,"message":"Sorry, your account balance is insufficient balance","data":null}"#),
        ("OpenRouter, through a gateway", 400, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#),
        ("OpenRouter, all its words", 400, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 65535 tokens, but can only afford 5083."}}"#),
        ("402 in the body, as text", 400, r#"{"error":{"message":"no","code":"402"}}"#),
        ("402 in the body, flat", 403, r#"{"code":402,"message":"no"}"#),
        ("402 in the body, 422", 422, r#"{"error":{"message":"the request exceeds the limit","code":402}}"#),
        ("a balance", 403, r#"{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}"#),
        ("no credits", 403, r#"{"error":{"message":"Your team has used up all available credits."}}"#),
        ("a payment", 400, r#"{"error":{"message":"Payment method is required to use this model."}}"#),
        ("billing", 403, r#"{"error":{"message":"Billing is not active for this account."}}"#),
        ("a quota", 403, r#"{"error":{"message":"User quota is not enough"}}"#),
        ("a quota, 400", 400, r#"{"error":{"message":"The quota of this key has been exhausted."}}"#),
        ("a closed account", 412, r#"{"error":{"message":"account suspended"}}"#),
        ("a subscription", 409, r#"{"error":{"message":"no","code":"subscription_expired"}}"#),
        ("Zhipu, 429", 429, r#"{"error":{"code":"1113","message":"余额不足或无可用资源包,请充值。"}}"#),
        ("Zhipu, arrears", 400, r#"{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试"}}"#),
        ("New API", 403, r#"{"error":{"message":"用户额度不足, 剩余额度: ¥0.00","type":"new_api_error"}}"#),
        ("New API, a key", 401, r#"{"error":{"message":"该令牌额度已用尽","type":"new_api_error"}}"#),
        ("Moonshot", 429, r#"{"error":{"type":"exceeded_current_quota_error","message":"Your account is suspended, please check your plan: insufficient balance"}}"#),
    ];
    for (kind, status, body) in rows {
        let given = || Given::new(status, "application/json", body);
        let error = refused(Server::Generic, given()).await;
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Quota, StatusCode::TOO_MANY_REQUESTS),
            "{kind}: {error}"
        );
        if status == 402 {
            assert_eq!(web(given()).await.expect_err(kind).kind(), ErrorKind::Quota, "{kind}, web");
        }
    }
}

/// What upstreams count per model, which is no fault of the account. A client is told the same.
#[tokio::test]
async fn quotas_of_one_model() {
    #[rustfmt::skip]
    let rows = [
        ("DashScope's free tier", 403, r#"{"error":{"code":"AllocationQuota.FreeTierOnly","message":"The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, please disable the \"use free tier only\" mode in the management console.","type":"AllocationQuota.FreeTierOnly"}}"#),
        ("the same, flat", 403, r#"{"code":"AllocationQuota.FreeTierOnly","message":"no","request_id":"r"}"#),
        ("the same, with another status", 400, r#"{"error":{"code":"AllocationQuota.FreeTierOnly","message":"no"}}"#),
        ("DashScope's words", 403, r#"{"error":{"message":"Free allocated quota exceeded.","code":"AccessDenied"}}"#),
        ("DashScope, in Chinese", 403, r#"{"error":{"message":"该模型的免费额度已用完，请开通付费"}}"#),
        ("ModelScope", 403, r#"{"error":{"message":"You have exceeded today's quota for model Qwen/Qwen3-Coder, please try again tomorrow"}}"#),
        ("Gemini", 403, r#"{"error":{"message":"Quota exceeded for metric: GenerateRequestsPerDayPerProjectPerModel-FreeTier, limit: 50"}}"#),
        ("a gateway", 403, r#"{"error":{"message":"You have used up your quota for this model"}}"#),
    ];
    for (kind, status, body) in rows {
        for server in [Server::DashScope, Server::Generic] {
            let error = refused(server, Given::new(status, "application/json", body)).await;
            let (given, status, _) = told(&error).await;
            assert_eq!((given, status), (ErrorKind::ModelQuota, 429), "{kind}: {error}");
            assert!(error.is_quota(), "{kind}");
        }
    }
    let free =
        r#"{"error":{"message":"Free allocated quota exceeded.","code":"insufficient_quota"}}"#;
    let error = refused(Server::Portal, Given::new(429, "application/json", free)).await;
    assert_eq!(error.kind(), ErrorKind::Quota, "the portal counts all models together");
    for body in [
        r#"{"error":{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}}"#,
        r#"{"error":{"message":"User quota is not enough for model calls"}}"#,
    ] {
        let error = refused(Server::DashScope, Given::new(403, "application/json", body)).await;
        assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    }
}

/// What a model's chat template says of a request is the client's to mend, whatever the status, and so
/// is what a server says that a model cannot take.
#[tokio::test]
async fn errors_of_chat_templates() {
    #[rustfmt::skip]
    let rows = [
        ("the order of messages", Server::LlamaCpp, r#"{"error":{"code":500,"message":"System message must be at the beginning.","type":"server_error"}}"#),
        ("an effort", Server::LlamaCpp, r#"{"error":{"code":500,"message":"Unexpected reasoning effort: high","type":"server_error"}}"#),
        ("the place in a template", Server::LlamaCpp, r#"{"error":{"code":500,"message":"Value is not callable: null at row 58, column 111:\n{%- for message in messages %}\n … Jinja template","type":"server_error"}}"#),
        ("a raised exception", Server::LlamaCpp, r#"{"error":{"code":500,"message":"\n------------\nWhile executing CallExpression at line 85, column 32 in source:\n... raise_exception('No user query found in messages.') ...\nError: Jinja Exception: No user query found in messages.","type":"server_error"}}"#),
        ("the same alone", Server::LlamaCpp, r#"{"error":{"code":500,"message":"No user query found in messages.","type":"server_error"}}"#),
        ("tools without templates", Server::LlamaCpp, r#"{"error":{"code":500,"message":"tools param requires --jinja flag","type":"server_error"}}"#),
        ("Ollama", Server::Ollama, r#"{"error":{"message":"template: :1:20: executing \"\" at <raise_exception \"bad role\">: error calling raise_exception","type":"api_error"}}"#),
        ("LM Studio", Server::Generic, r#"{"error":"Error rendering prompt with jinja template: \"Unexpected message role.\""}"#),
        ("vLLM", Server::Vllm, r#"{"error":{"message":"Conversation roles must alternate user/assistant/user/assistant/...","type":"InternalServerError","code":500}}"#),
        ("SGLang", Server::SgLang, r#"{"object":"error","message":"Internal server error: jinja2.exceptions.TemplateError: After the optional system message, conversation roles must alternate","code":500}"#),
        ("an image", Server::LlamaCpp, r#"{"error":{"code":500,"message":"image input is not supported - hint: if this is unexpected, you may need to provide the mmproj","type":"server_error"}}"#),
        ("images", Server::Vllm, r#"{"error":{"message":"At most 0 image(s) may be provided in one prompt.","code":500}}"#),
        ("tools", Server::Ollama, r#"{"error":{"message":"registry.ollama.ai/library/x does not support tools","type":"api_error"}}"#),
        ("a model for texts", Server::Generic, r#"{"error":{"message":"x is not a multimodal model"}}"#),
        ("a grammar", Server::LlamaCpp, r#"{"error":{"code":500,"message":"Failed to initialize samplers: failed to parse grammar","type":"server_error"}}"#),
        ("MLX", Server::Generic, r#"{"error":"Failed to apply the chat template: 'dict object' has no attribute 'content'"}"#),
    ];
    for (kind, server, body) in rows {
        for status in [500, 400, 502] {
            let given = Given::new(status, "application/json", body);
            let error = refused(server, given).await;
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{kind}, {status}: {error}");
            assert!(!error.is_retryable(), "{kind}");
            assert!(status == 400 || error.code().is_none(), "{kind}: {error:?}");
        }
        let error = refused(server, Given::events(&[body, "[DONE]"])).await;
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{kind}, streamed: {error}");
    }
    for (kind, body) in [
        (
            "a crash",
            r#"{"error":{"code":500,"message":"Internal Server Error","type":"server_error"}}"#,
        ),
        ("another", r#"{"error":{"message":"CUDA error: device-side assert triggered"}}"#),
    ] {
        let given = Given::new(500, "application/json", body);
        assert_eq!(refused(Server::LlamaCpp, given).await.kind(), ErrorKind::Upstream, "{kind}");
    }
}

/// Errors in the forms of vendors and gateways: what is said, and what it means.
#[tokio::test]
async fn errors_in_other_forms() {
    #[rustfmt::skip]
    let rows = [
        ("a problem (RFC 9457)", 400, r#"{"type":"about:blank","title":"Bad Request","detail":"no","status":400}"#, ErrorKind::InvalidRequest, "no"),
        ("Cloudflare", 400, r#"{"success":false,"errors":[{"code":7003,"message":"no"}],"messages":[],"result":null}"#, ErrorKind::InvalidRequest, "no"),
        ("Apigee", 429, r#"{"fault":{"faultstring":"no","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}"#, ErrorKind::RateLimited, "no"),
        ("Azure", 400, r#"{"Error":{"Code":"InvalidParameter","Message":"no"}}"#, ErrorKind::InvalidRequest, "no"),
        ("Baidu", 400, r#"{"error_code":336003,"error_msg":"no"}"#, ErrorKind::InvalidRequest, "no"),
        ("MiniMax", 200, r#"{"base_resp":{"status_code":1004,"status_msg":"login fail: Please carry the API secret key"}}"#, ErrorKind::Auth, "login fail: Please carry the API secret key"),
        ("MiniMax, a balance", 200, r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#, ErrorKind::Quota, "insufficient balance"),
        ("a reason", 400, r#"{"reason":"no"}"#, ErrorKind::InvalidRequest, "no"),
        ("a number beside it", 500, r#"{"err_msg":"no","err_no":5}"#, ErrorKind::Upstream, "no"),
        ("several messages", 400, r#"{"error":{"message":["no","nor"]}}"#, ErrorKind::InvalidRequest, "no"),
        ("a message that is an object", 400, r#"{"error":{"message":{"text":"no"}}}"#, ErrorKind::InvalidRequest, "no"),
        ("too many requests", 400, r#"{"error":{"message":"Too many requests, please slow down","code":"rate_limit"}}"#, ErrorKind::RateLimited, "Too many requests, please slow down"),
        ("a model", 400, r#"{"error":{"message":"Model Not Exist"}}"#, ErrorKind::ModelNotFound, "Model Not Exist"),
        ("a model, OpenRouter", 400, r#"{"error":{"message":"x is not a valid model ID: invalid model ID"}}"#, ErrorKind::ModelNotFound, "x is not a valid model ID: invalid model ID"),
        ("a page of Cloudflare's", 524, "<html>A timeout occurred</html>", ErrorKind::Timeout, "the upstream answered with status 524"),
        ("nothing in a list", 400, r#"{"error":{"message":[]}}"#, ErrorKind::InvalidRequest, "the upstream answered with status 400"),
    ];
    for (kind, status, body, expected, message) in rows {
        let error = refused(Server::Generic, Given::new(status, "application/json", body)).await;
        assert_eq!((error.kind(), error.message()), (expected, message), "{kind}");
    }
}

/// JSON that a gateway wrote into a message is not handed on as such.
#[tokio::test]
async fn messages_that_hold_json() {
    #[rustfmt::skip]
    let rows = [
        ("an error", r#"{"error":{"message":"{\"error\": {\"message\": \"no such field\", \"code\": \"x\"}}","code":"y"}}"#, "no such field", Some("x")),
        ("an error in an error", r#"{"error":{"message":"{\"error\":{\"message\":\"{\\\"error\\\":{\\\"message\\\":\\\"no\\\"}}\"}}"}}"#, "no", None),
        ("a bare string", r#"{"error":"{\"error\":\"no\"}"}"#, "no", None),
        ("flat", r#"{"message":"{\"message\":\"no\",\"code\":\"InvalidParameter\"}"}"#, "no", Some("InvalidParameter")),
        ("a detail", r#"{"detail":"{\"detail\":\"no\"}"}"#, "no", None),
        ("behind words", r#"{"error":{"message":"upstream said: {\"error\":{\"message\":\"no\",\"type\":\"t\"}}"}}"#, "no", Some("t")),
        ("with blanks around it", r#"{"error":{"message":"\n {\"message\":\"no\"} \n"}}"#, "no", None),
        ("a quotation", r#"{"error":{"message":"wrong input: {\"message\":\"hi\"}"}}"#, "wrong input: {\"message\":\"hi\"}", None),
        ("a schema", r#"{"error":{"message":"{\"type\":\"object\"}"}}"#, "{\"type\":\"object\"}", None),
        ("half of one", r#"{"error":{"message":"{\"error\":{\"mess"}}"#, "{\"error\":{\"mess", None),
        ("braces", r#"{"error":{"message":"use {} or {x}"}}"#, "use {} or {x}", None),
    ];
    for (kind, body, message, code) in rows {
        let error = refused(Server::Generic, Given::new(400, "application/json", body)).await;
        assert_eq!((error.message(), error.code()), (message, code), "{kind}");
        let error = refused(Server::Generic, Given::events(&[body, "[DONE]"])).await;
        assert_eq!(error.message(), message, "{kind}, streamed");
    }
}

/// What sounds like a fault of the account and is something else.
#[tokio::test]
async fn faults_that_are_not_of_the_account() {
    #[rustfmt::skip]
    let rows = [
        ("a function of that name", 400, r#"{"error":{"message":"Invalid schema for function 'payment': not enough members"}}"#, ErrorKind::InvalidRequest),
        ("a function with such a name", 400, r#"{"error":{"message":"get_balance is required"}}"#, ErrorKind::InvalidRequest),
        ("brackets", 400, r#"{"error":{"message":"unbalanced brackets: a closing one is required"}}"#, ErrorKind::InvalidRequest),
        ("a load balancer", 503, r#"{"error":{"message":"the load balancer has not enough backends"}}"#, ErrorKind::Overloaded),
        ("a quota of a minute", 429, r#"{"error":{"message":"Quota exceeded: too many requests per minute"}}"#, ErrorKind::RateLimited),
        ("a limit of a minute, in Chinese", 429, r#"{"error":{"message":"请求额度用尽：每分钟请求数超过限制"}}"#, ErrorKind::RateLimited),
        ("another code", 400, r#"{"error":{"message":"no","code":4020}}"#, ErrorKind::InvalidRequest),
        ("a key that has expired", 400, r#"{"error":{"message":"API key expired. Please renew the API key."}}"#, ErrorKind::Auth),
        ("Anthropic's status", 529, r#"{"error":{"message":"overloaded"}}"#, ErrorKind::Overloaded),
        ("a credential", 401, r#"{"error":{"message":"credentials required"}}"#, ErrorKind::Auth),
    ];
    for (kind, status, body, expected) in rows {
        let error = refused(Server::Generic, Given::new(status, "application/json", body)).await;
        assert_eq!(error.kind(), expected, "{kind}: {error}");
    }
    // Of DashScope these are tokens of a minute.
    for body in [
        r#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota, please check your plan and billing details."}}"#,
        r#"{"code":"Throttling.AllocationQuota","message":"Allocated quota exceeded, please increase your quota limit."}"#,
    ] {
        let error = refused(Server::DashScope, Given::new(429, "application/json", body)).await;
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
    }
}

/// The wait in each of its forms, over either wire.
#[tokio::test]
async fn the_wait_is_read_in_every_form() {
    let ms = Duration::from_millis;
    #[rustfmt::skip]
    let rows = [
        ("seconds", &[("retry-after", "7")][..], Some(ms(7000))),
        ("a fraction", &[("retry-after", "0.25")], Some(ms(250))),
        ("milliseconds", &[("retry-after-ms", "1250")], Some(ms(1250))),
        ("milliseconds before seconds", &[("retry-after", "7"), ("retry-after-ms", "1250")], Some(ms(1250))),
        ("a date, by the server's clock", &[("date", "Wed, 21 Oct 2026 07:28:00 GMT"), ("retry-after", "Wed, 21 Oct 2026 07:28:09 GMT")], Some(ms(9000))),
        ("a date in the past", &[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(ms(0))),
        ("words", &[("retry-after", "soon")], None),
        ("a number below zero", &[("retry-after", "-7")], None),
    ];
    for (kind, headers, wait) in rows {
        let given = || {
            let mut given = Given::new(
                429,
                "application/json",
                r#"{"error":{"message":"slow","code":"rate"}}"#,
            );
            given.headers.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
            given
        };
        assert_eq!(refused(Server::Generic, given()).await.retry_after(), wait, "{kind}");
        let error = web(given()).await.expect_err(kind);
        // Where nothing is said, there is a wait of our own.
        assert_eq!(error.retry_after(), Some(wait.unwrap_or(ms(5000))), "{kind}, web");
    }
}

/// Whoever is sent to a page to sign in is not known.
#[tokio::test]
async fn a_redirect_to_the_sign_in_page() {
    for (status, target, kind) in [
        (302, "/auth?redirect=%2Fapi%2Fv2", ErrorKind::Auth),
        (301, "https://chat.qwen.ai/login", ErrorKind::Auth),
        (303, "https://chat.qwen.ai/auth", ErrorKind::Auth),
        (307, "https://passport.example.com/x?next=/", ErrorKind::Auth),
        (302, "https://login.example.com/", ErrorKind::Auth),
        (302, "/user/signin", ErrorKind::Auth),
        (302, "https://chat.qwen.ai/elsewhere", ErrorKind::Upstream),
    ] {
        let given = || {
            let mut given = Given::new(status, "text/html", "<html>Moved</html>");
            given.headers.push(("location", target.to_owned()));
            given
        };
        assert_eq!(web(given()).await.expect_err(target).kind(), kind, "{target}, web");
        assert_eq!(refused(Server::Generic, given()).await.kind(), kind, "{target}");
    }
    let mut given = Given::new(302, "text/html", "");
    let target = "https://chat.qwen.ai/api/_____tmd_____/punish?x5secdata=DEMO";
    given.headers.push(("location", target.to_owned()));
    assert_eq!(web(given).await.expect_err("a challenge").kind(), ErrorKind::Challenge);
}
