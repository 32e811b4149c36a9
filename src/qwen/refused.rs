//! What every upstream means by the same words of refusal.

use http::{HeaderMap, StatusCode, header};

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
    if matches!(status.map(|status| status.as_u16()), Some(401..=404 | 429)) {
        return false;
    }
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["per min", "per day", "per hour", "per second", "rate limit", "throttl", "quota"]) {
        return false;
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
    let of_tokens = says(&["too many tokens", "token limit", "sequence length", "n_ctx"]);
    is_too_much && (of_context || of_prompt || of_tokens)
}

/// Whether an upstream says that the account must be paid for, or is closed: no other request of it
/// will do better. `code` and `text` are in lower case.
pub(crate) fn is_account_fault(status: Option<StatusCode>, code: &str, text: &str) -> bool {
    let in_code = |words: &[&str]| words.iter().any(|word| code.contains(word));
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    status == Some(StatusCode::PAYMENT_REQUIRED)
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
            "account has been deactivated",
        ])
}

/// Whether a response sends its reader to a page where people sign in: whoever asked is not known.
pub(crate) fn is_sent_to_sign_in(status: StatusCode, headers: &HeaderMap) -> bool {
    let target = headers.get(header::LOCATION).and_then(|target| target.to_str().ok());
    status.is_redirection() && target.is_some_and(is_sign_in)
}

/// Whether an address is that of a page where people sign in.
pub(crate) fn is_sign_in(target: &str) -> bool {
    const PAGES: [&str; 11] = [
        "auth",
        "login",
        "signin",
        "sign-in",
        "sign_in",
        "sso",
        "passport",
        "oauth",
        "authorize",
        "signup",
        "account",
    ];
    let target = target.to_ascii_lowercase();
    let place = target.split(['?', '#']).next().unwrap_or_default();
    place.split(['/', '.', ':']).any(|part| PAGES.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_to_sign_in_are_known() {
        for target in [
            "/auth",
            "/login?next=%2Fapi",
            "https://chat.qwen.ai/auth?action=signin",
            "https://login.example.com/",
            "https://passport.example.com/x",
            "/user/Sign-In",
        ] {
            assert!(is_sign_in(target), "{target}");
        }
        for target in ["/", "/api/v2/chats/new", "https://chat.qwen.ai/authors", "/x?auth=1", ""] {
            assert!(!is_sign_in(target), "{target}");
        }
    }
}
