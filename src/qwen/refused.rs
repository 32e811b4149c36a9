//! What every upstream means by the same words of refusal.

use http::StatusCode;

/// Whether an upstream says that the prompt does not fit into the model's context. There is no common
/// code for it, and every server words it in its own way, so it is known by what is said: of the
/// prompt, the input or the context, by its length, its window or its tokens, that it is too much.
///
/// `code` and `text` are in lower case. Limits on tokens per time are something else.
pub(crate) fn is_context_overflow(status: Option<StatusCode>, code: &str, text: &str) -> bool {
    let in_code = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if in_code(&[
        "context_length",
        "context_size",
        "context_window",
        "context_limit",
        "context_overflow",
        "prompt_tokens_exceeded",
        "prompt_too_long",
        "input_too_long",
        "input_tokens_exceeded",
        "tokens_limit_reached",
        "contextlength",
        "contextwindow",
    ]) {
        return true;
    }
    // The status says of these what they are about, whatever their words.
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status.map(|status| status.as_u16()) {
        Some(401..=403 | 429) => return false,
        // MLX's server answers with it to all that goes wrong.
        Some(404) if says(&["not exist", "not found", "no such", "unknown model"]) => return false,
        _ => {}
    }
    if is_per_time(text) || says(&["quota", "credits", "billing", "afford"]) {
        return false;
    }
    if is_overflow_in_chinese(text) {
        return true;
    }
    // Other fields of the request are named after tokens too.
    let without_fields;
    let text = if text.contains("max_") {
        without_fields = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
            .iter()
            .fold(text.to_owned(), |text, field| text.replace(field, ""));
        &*without_fields
    } else {
        text
    };
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_too_much = says(&[
        "too long",
        "too large",
        "too big",
        "too many",
        "too much",
        "exceed",
        "longer than",
        "larger than",
        "greater than",
        "more than",
        "less than",
        "shorter",
        "must be <",
        "> ",
        "should be [",
        "maximum",
        "overflow",
        "out of",
        "not enough",
        "does not fit",
        "doesn't fit",
        "cannot fit",
        "is only",
        "of only",
        "reached",
        "is full",
        "ran out",
        "surpass",
        "over the",
        "above the",
        "beyond",
        "reduce",
    ]);
    let of_context = text.contains("context")
        && says(&["length", "window", "size", "limit", "token", "overflow", "capacity", "n_ctx"]);
    let of_prompt = says(&["prompt", "input", "messages", "conversation", "history", "request"])
        && (text.contains("token")
            || says(&[
                "prompt is too long",
                "prompt too long",
                "prompt is too large",
                "prompt is too big",
                "prompt length",
                "input is too long",
                "input too long",
                "input is too large",
                "input length",
                "conversation is too long",
                "length of the messages",
                "length of the prompt",
                "length of the input",
                "kv size",
                "max_model_len",
                "max_kv_size",
                "max_seq_len",
                "sequence length",
                "model length",
            ]));
    let of_tokens = says(&[
        "too many tokens",
        "token limit",
        "sequence length",
        "n_ctx",
        "prompt exceeds max length",
        "total tokens",
        "message tokens",
        "total text bytes",
    ]);
    is_too_much && (of_context || of_prompt || of_tokens)
}

/// Whether it is a limit on how much is asked for within some time.
fn is_per_time(text: &str) -> bool {
    const WORDS: [&str; 22] = [
        "per min",
        "per day",
        "per hour",
        "per second",
        "rate limit",
        "throttl",
        "每分钟",
        "每秒",
        "每小时",
        "每天",
        "每日",
        "每月",
        "分钟内",
        "秒内",
        "限流",
        "频率",
        "频次",
        "频繁",
        "速率",
        "并发",
        "tpm",
        "rpm",
    ];
    WORDS.iter().any(|word| text.contains(word))
}

/// Whether it is said in Chinese that the prompt does not fit into the context: of what, how it is
/// measured, and that it is too much.
fn is_overflow_in_chinese(text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_too_much = says(&[
        "超过", "超出", "超长", "超限", "过长", "太长", "过多", "太多", "过大", "大于", "小于",
        "上限", "最大", "限制", "溢出", "范围", "不足", "已满",
    ]);
    // Of what has a length too, what is used up, and what runs out.
    if !is_too_much
        || says(&[
            "余额",
            "额度",
            "配额",
            "用量",
            "欠费",
            "有效期",
            "过期",
            "缓存",
            "请求体",
            "报文",
        ])
    {
        return false;
    }
    if says(&["上下文"]) {
        return true;
    }
    let is_measured =
        says(&["长度", "超长", "过长", "太长", "token", "令牌", "字数", "字符", "窗口", "输入超"]);
    if says(&["提示词", "prompt"]) {
        return is_measured;
    }
    let is_of_other = says(&[
        "名称", "函数", "工具", "字段", "描述", "图片", "图像", "文件", "音频", "视频", "url",
        "标题", "停止", "stop",
    ]) || says(&["输出", "生成"]) && !says(&["输入"]);
    is_measured
        && !is_of_other
        && says(&[
            "输入", "对话", "会话", "历史", "消息", "messages", "文本", "内容", "问题", "模型",
        ])
}

/// Whether an upstream says that the account must be paid for, or is closed: no other request of it
/// will do better. `code` and `text` are in lower case.
pub(crate) fn is_account_fault(status: Option<StatusCode>, code: &str, text: &str) -> bool {
    let in_code = |words: &[&str]| words.iter().any(|word| code.contains(word));
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // Gateways write the status that they mean into the body, under another of their own.
    status == Some(StatusCode::PAYMENT_REQUIRED)
        || code.split_ascii_whitespace().any(|word| word == "402")
        || in_code(&[
            "arrearage",
            "commoditynotpurchased",
            "billoverdue",
            "freetieronly",
            "payment_required",
            "insufficient_balance",
            "insufficientbalance",
            "insufficient_credit",
            "insufficient_funds",
            "billing_hard_limit",
            "billing_not_active",
            "account_deactivated",
            "account_suspended",
            "account_overdue",
            "credits_exhausted",
            "out_of_credits",
            "billing_error",
            "subscription_expired",
        ])
        || says(&[
            "free allocated quota exceeded",
            "insufficient balance",
            "insufficient account balance",
            "insufficient credit",
            "insufficient funds",
            "not enough credits",
            "out of credits",
            "credit balance is too low",
            "balance is not enough",
            "payment required",
            "overdue payment",
            "account is overdue",
            "account is in arrears",
            "account has been suspended",
            "account is suspended",
            "account suspended",
            "subscription has expired",
            "subscription expired",
            "account has been deactivated",
        ])
        || !is_passing(code, text) && (is_out_of_money(text) || is_out_of_quota(status, text))
}

/// Whether a quota that is used up is one of the model that was asked, so that others have theirs.
/// `code` and `text` are in lower case.
pub(crate) fn is_of_one_model(code: &str, text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    code.contains("freetieronly")
        || says(&[
            "free allocated quota exceeded",
            "free tier of the model",
            "free quota of the model",
            "quota for the model",
            "quota for this model",
            "quota of the model",
            "quota of this model",
            "quota for model",
            "quota of model",
            "credits for this model",
            "limit for this model",
            "per model",
            "per-model",
            "permodel",
        ])
        || says(&["该模型", "此模型", "当前模型", "模型的"])
            && says(&["免费额度", "额度", "配额", "用量"])
}

/// Whether what a server says as if it had failed is about the request: the model's chat template raises
/// where a role, an order or an effort is not one it knows, and some servers say so of what the model
/// cannot take. `text` is in lower case.
pub(crate) fn is_about_the_request(text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_not_taken =
        says(&["image", "audio", "video", "multimodal", "vision", "tools", "thinking"])
            && says(&[
                "input is not supported",
                "does not support",
                "not a multimodal",
                "at most 0 ",
            ]);
    is_not_taken
        || says(&[
            "chat template",
            "chat_template",
            "chattemplate",
            "jinja",
            "raise_exception",
            "templateerror",
            "template error",
            "error rendering template",
            "failed to apply template",
            "failed to parse messages",
            "failed to parse tools",
            "system message must be at the beginning",
            "system role not supported",
            "unexpected reasoning effort",
            "unexpected message role",
            "unexpected role",
            "unknown role",
            "unexpected item type in content",
            "unexpected content type",
            "no user query found in messages",
            "no messages provided",
            "roles must alternate",
            "value is not callable",
            "failed to parse grammar",
            "failed to initialize samplers",
            "failed to load image",
            "cannot identify image",
        ])
        || text.starts_with("template: ")
}

/// Whether what is used up comes back by itself, or may: these are told apart by the server.
fn is_passing(code: &str, text: &str) -> bool {
    is_per_time(text)
        || ["throttl", "rate_limit", "limit_requests"].iter().any(|word| code.contains(word))
        || ["exceeded your current quota", "allocated quota exceeded"]
            .iter()
            .any(|words| text.contains(words))
}

/// Whether there is no money left, in English or Chinese.
fn is_out_of_money(text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&[
        "余额不足",
        "余额已",
        "余额为",
        "欠费",
        "欠款",
        "充值",
        "未支付",
        "未付款",
        "未缴费",
        "账单逾期",
        "额度不足",
        "额度已",
        "额度用",
        "额度耗",
        "配额不足",
        "配额已用",
        "配额用",
        "配额耗",
        "资源包已",
        "资源包余量不足",
    ]) {
        return true;
    }
    // The client may have functions, and fields, of these names.
    if says(&["schema", "function", "tool", "parameter", "field", "messages["]) {
        return false;
    }
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_of_money = words.any(|word| {
        matches!(
            word,
            "credit"
                | "credits"
                | "balance"
                | "billing"
                | "payment"
                | "payments"
                | "funds"
                | "bill"
        )
    });
    is_of_money
        && says(&[
            "insufficient",
            "not enough",
            "too low",
            "more credits",
            "exhaust",
            "ran out",
            "run out",
            "out of",
            "no credits",
            "no remaining",
            "depleted",
            "exceed",
            "overdue",
            "unpaid",
            "past due",
            "method is required",
            "add a payment",
            "add a credit card",
            "add more",
            "add credits",
            "add funds",
            "purchase",
            "buy ",
            "top up",
            "recharge",
            "negative",
            "declined",
            "inactive",
            "not active",
            "disabled",
            "hard limit",
            "used up",
            "enable billing",
            "afford",
            "set up",
            "no payment",
            "is zero",
        ])
}

/// Whether a quota is used up. With 429 it is the server's to say which: it may be one of a minute.
fn is_out_of_quota(status: Option<StatusCode>, text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    status.is_some_and(|status| status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS)
        && says(&["quota"])
        && says(&[
            "exceed",
            "exhaust",
            "insufficient",
            "used up",
            "run out",
            "ran out",
            "out of",
            "reached",
            "not enough",
            "no remaining",
            "depleted",
        ])
}
