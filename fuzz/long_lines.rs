/// The input, of which the first bytes that are 1 became long texts, and 2 such that are no ASCII:
/// lines that a fuzzer would not come upon.
pub(crate) fn expand(input: &[u8]) -> Vec<u8> {
    let mut left = 4;
    let mut expanded = Vec::with_capacity(input.len());
    for &byte in input {
        let text = match byte {
            1 if left > 0 => "x",
            2 if left > 0 => "漢",
            _ => {
                expanded.push(byte);
                continue;
            }
        };
        left -= 1;
        expanded.extend_from_slice(text.repeat(4500 / text.len()).as_bytes());
    }
    expanded
}
