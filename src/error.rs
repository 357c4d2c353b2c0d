//! The error texts of both programs.

use std::io;

/// The reason of an error as a person reads it: `Connection refused`, without the ` (os error 111)` that
/// the standard library adds to the system's own words.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error().and_then(|code| text.strip_suffix(&format!(" (os error {code})"))) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_the_system_is_left_out() {
        let system = io::Error::from_raw_os_error(2);
        assert!(system.to_string().ends_with(" (os error 2)"));
        assert_eq!(reason(&system), "No such file or directory");
        assert_eq!(reason(&io::Error::other("said (os error 2)")), "said (os error 2)");
    }
}
