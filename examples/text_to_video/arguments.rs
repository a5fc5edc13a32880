//! Prompts that begin with a dash, which look like options.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::options::Options;

/// The command line with its prompts after `--`, if one of them begins with a dash and can be nothing but
/// a prompt.
pub(crate) fn with_prompts_last(given: &[OsString]) -> Vec<OsString> {
    let command = Options::command();
    let takes_value = |argument: &OsStr| {
        let name = argument.to_str().and_then(|argument| argument.strip_prefix("--"));
        let mut options = command.get_arguments().filter(|option| option.get_long() == name);
        name.is_some() && options.any(|option| option.get_action().takes_values())
    };
    let mut rest = given.iter();
    let mut options: Vec<&OsString> = rest.next().into_iter().collect(); // the program
    let mut prompts = Vec::new();
    while let Some(argument) = rest.next() {
        match argument {
            separator if separator == "--" => prompts.extend(rest.by_ref()),
            option if takes_value(option) => {
                options.push(option);
                options.extend(rest.next());
            }
            prompt if !begins_with_dash(prompt) || is_dashed_prompt(prompt) => prompts.push(prompt),
            option => options.push(option),
        }
    }
    if !prompts.iter().any(|prompt| is_dashed_prompt(prompt)) {
        return given.to_vec();
    }
    let separator = OsString::from("--");
    options.into_iter().chain([&separator]).chain(prompts).cloned().collect()
}

fn begins_with_dash(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"-")
}

/// Whether this can be no option, such as `- a red circle`: no option has a blank in its name. What goes
/// on with a letter may be an option that was quoted together with its value.
fn is_dashed_prompt(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    let after = text.trim_start_matches('-');
    text.starts_with('-')
        && after.contains(char::is_whitespace)
        && !after.starts_with(char::is_alphabetic)
}

/// The error with a tip that can be pasted, in place of one that has only a part of the prompt. An option
/// that is misspelt keeps the tip that names the right one.
pub(crate) fn with_tip(mut error: clap::Error, given: &[OsString]) -> clap::Error {
    let Some(whole) = unknown_argument(&error, given) else { return error };
    if error.get(ContextKind::Suggested).is_some() || whole.contains(char::is_whitespace) {
        let quoted = whole.replace('\'', r"'\''");
        let tip = format!("a prompt that begins with a dash comes last: -- '{quoted}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The whole argument of which an error names the beginning.
fn unknown_argument<'a>(error: &clap::Error, given: &'a [OsString]) -> Option<&'a str> {
    let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidArg) else { return None };
    let mut arguments = given.iter().skip(1).filter_map(|argument| argument.to_str());
    let whole = arguments.find(|argument| argument.starts_with(found));
    whole.filter(|_| error.kind() == ErrorKind::UnknownArgument)
}
