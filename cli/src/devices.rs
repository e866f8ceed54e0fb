//! `segfuse devices`

use crate::args::DevicesArgs;
use crate::error::{CommandResult, Verdict};
use crate::report::{json, say, table};
use segfuse::Runtime;

/// Lists the devices, best first.
pub(crate) fn run(args: &DevicesArgs) -> CommandResult {
    let devices = Runtime::devices();
    if args.json {
        say(json(&devices));
        return Ok(Verdict::Good);
    }
    let mut rows = table(&["device", "description"]);
    for device in devices {
        rows.add_row([device.name, device.description]);
    }
    say(rows);
    Ok(Verdict::Good)
}
