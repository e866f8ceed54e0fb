//! Text → objective → text → objective: the same objective, term by term.
#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use segfuse::Objective;
use segfuse::loss::ENTRIES;

/// Any text, or text that is often a spec string.
#[derive(Debug)]
struct Text(String);

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Text> {
        if u.ratio(1, 4)? {
            return Ok(Text(u.arbitrary()?));
        }
        let mut text = String::from(if u.arbitrary()? { "-" } else { "" });
        for i in 0..u.int_in_range(1..=4)? {
            if i > 0 {
                text += *u.choose(&["+", " - ", "+ "])?;
            }
            if u.arbitrary()? {
                text += &format!("{}*", number(u)?.trim_start_matches('-'));
            }
            call(u, &mut text)?;
        }
        Ok(Text(text))
    }
}

fn call(u: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    let entry = u.choose(ENTRIES)?;
    let names: Vec<&str> = std::iter::once(entry.name).chain(entry.aliases.iter().copied()).collect();
    *text += u.choose(&names)?;
    let parameters = entry.parameters();
    let mut keys: Vec<&str> = parameters.iter().map(|p| p.key).collect();
    keys.extend(["batch", "background", "absent", "class_weights"]);
    keys.retain(|_| u.ratio(1, 3).unwrap_or(false));
    let mut arguments = Vec::new();
    for key in keys {
        let default = parameters.iter().find(|p| p.key == key).map(|p| p.default.clone());
        arguments.push(format!("{key}={}", value(u, default)?));
    }
    *text += &format!("({})", arguments.join(","));
    Ok(())
}

fn value(u: &mut Unstructured<'_>, default: Option<String>) -> Result<String> {
    const WORDS: &[&str] = &["true", "false", "none", "auto", "count", "skip", "zero", "categorical", "binary"];
    Ok(match u.int_in_range(0..=4)? {
        0 => default.unwrap_or_default(),
        1 => (*u.choose(WORDS)?).into(),
        2 => {
            let mut list = number(u)?;
            for _ in 0..u.int_in_range(0..=8)? {
                list += *u.choose(&[",", ";"])?;
                list += &number(u)?;
            }
            format!("[{list}]")
        }
        3 => format!("{}/{}", number(u)?, number(u)?),
        _ => number(u)?,
    })
}

fn number(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=3)? {
        0 => u.int_in_range(-2..=3)?.to_string(),
        1 => (f64::from(u.arbitrary::<u8>()?) / 256.0).to_string(),
        2 => format!("{:e}", u.arbitrary::<f64>()?),
        _ => u.arbitrary::<f32>()?.to_string(),
    })
}

fuzz_target!(|text: Text| {
    let Ok(first) = text.0.parse::<Objective>() else { return };
    let printed = first.to_string();
    let second: Objective = printed.parse().unwrap_or_else(|e| panic!("{printed:?}: {e}"));
    assert_eq!(second.to_string(), printed);
    assert_eq!(first.terms().len(), second.terms().len());
    for (a, b) in first.terms().iter().zip(second.terms()) {
        assert_eq!(a.weight.to_bits(), b.weight.to_bits(), "{printed:?}");
        assert_eq!(a.loss.name(), b.loss.name());
        assert_eq!(a.options, b.options, "{printed:?}");
        assert_eq!(a.arguments(), b.arguments());
    }
});
