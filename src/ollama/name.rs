/// The name of a model without the tag that every name has in Ollama unless it says another:
/// `qwen3-max` for `qwen3-max:latest`.
///
/// The edges of this module do this to the names in requests. The function is for whoever chooses by
/// the name which stack a request goes to.
///
/// ```
/// use tower_qwen::ollama::untagged;
///
/// assert_eq!(untagged("qwen3-max:latest"), "qwen3-max");
/// assert_eq!(untagged("qwen3:8b"), "qwen3:8b");
/// ```
#[must_use]
pub fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").filter(|rest| !rest.is_empty()).unwrap_or(name)
}
