//! `segfuse list`

use crate::args::ListArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::report::{json, say, table};
use segfuse::loss::{ENTRIES, Entry};

/// Lists the losses.
pub(crate) fn run(args: &ListArgs) -> CommandResult {
    let wanted = args.name.as_deref().unwrap_or("");
    let names =
        |entry: &Entry| std::iter::once(entry.name).chain(entry.aliases.iter().copied()).any(|n| n.contains(wanted));
    let losses: Vec<&Entry> = ENTRIES.iter().filter(|entry| names(entry)).collect();
    if losses.is_empty() {
        return Err(CliError::Arguments(format!("no loss has `{wanted}` in its name")));
    }
    if args.json {
        say(json(&losses));
        return Ok(Verdict::Good);
    }
    let mut rows = table(&["loss", "parameters", "source"]);
    for loss in &losses {
        let names: Vec<&str> = std::iter::once(loss.name).chain(loss.aliases.iter().copied()).collect();
        let parameters: Vec<String> =
            loss.parameters().iter().map(|p| format!("{}={} ({})", p.key, p.default, p.range)).collect();
        rows.add_row([names.join(", "), parameters.join("\n"), loss.source.into()]);
    }
    say(rows);
    say(
        "Every loss also takes batch=true|false, background=true|false, absent=count|skip|zero and class_weights=[a, b, …].",
    );
    Ok(Verdict::Good)
}
