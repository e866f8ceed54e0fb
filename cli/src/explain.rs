//! `segfuse explain`

use crate::args::ExplainArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::report::{json, say, seconds};
use segfuse::{Explanation, Objective, Plan, Problem, Shape, Target};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_ms: Option<f64>,
}

/// Explains a plan.
pub(crate) fn run(args: &ExplainArgs) -> CommandResult {
    let objective: Objective = args.loss.parse()?;
    let explanation = Plan::new(&objective, &problem(args)?)?.explain();
    let floor = match args.bandwidth {
        None => None,
        Some(bandwidth) if bandwidth.is_finite() && bandwidth > 0.0 => Some(explanation.floor_seconds(bandwidth * 1e9)),
        Some(bandwidth) => return Err(CliError::Arguments(format!("--bandwidth must be above 0, got {bandwidth}"))),
    };
    if args.json {
        say(json(&Report { explanation, floor_ms: floor.map(|s| s * 1e3) }));
        return Ok(Verdict::Good);
    }
    say(&explanation);
    if let (Some(floor), Some(bandwidth)) = (floor, args.bandwidth) {
        say(format_args!("floor      {} at {bandwidth} GB/s", seconds(floor)));
    }
    Ok(Verdict::Good)
}

fn problem(args: &ExplainArgs) -> Result<Problem, CliError> {
    let [samples, classes, spatial @ ..] = args.shape.as_slice() else {
        let got = args.shape.len();
        return Err(CliError::Arguments(format!(
            "--shape needs N, C and at least one spatial extent, got {got} numbers"
        )));
    };
    let mut problem = Problem::new(Shape::new(*samples, *classes, spatial)?);
    problem = match args.target.into() {
        Target::Labels(dtype) => problem.labels(dtype),
        Target::Dense(dtype) => problem.dense(dtype),
    };
    if args.mask {
        problem = problem.mask();
    }
    if args.weights {
        problem = problem.weights();
    }
    if let Some(map) = args.distance {
        problem = problem.map(map.into());
    }
    Ok(args.problem.apply(problem, args.dtype.into()))
}
