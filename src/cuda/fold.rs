//! Takes out of a completed kernel what the numbers of the plan leave dead: branches that are never or always taken, what is not
//! reached, what nobody reads.
//!
//! The driver's compiler would find the same; but it is asked for a tenth of the text, and what is counted and looked at in tests
//! is then what runs. Knows the forms of PTX that the kernels have: whatever it does not know it keeps.

use std::collections::HashMap;

/// The text without what is dead.
pub(super) fn fold(text: &str) -> String {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut nested = 0;
    for text in text.lines() {
        lines.push(Line::parse(text, &mut nested));
    }
    while decide(&mut lines) {
        drop_unreached(&mut lines);
    }
    drop_unread(&mut lines);
    let mut folded = String::with_capacity(text.len() / 2);
    for line in &lines {
        folded.push_str(&line.text());
        folded.push('\n');
    }
    folded
}

/// A line of a kernel.
enum Line<'a> {
    Label(&'a str),
    Instruction(Instruction<'a>),
    /// A directive, or part of a scope within the body.
    Other(&'a str),
}

struct Instruction<'a> {
    /// The predicate that it is carried out under, and whether it must not hold.
    guard: Option<(&'a str, bool)>,
    name: &'a str,
    operands: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// `nested` is how many braces are open; the body of the kernel lies in the first pair.
    fn parse(text: &'a str, nested: &mut usize) -> Line<'a> {
        let opened = *nested;
        match text {
            "{" => *nested += 1,
            "}" => *nested -= 1,
            _ if opened == 1 && text.ends_with(':') => return Line::Label(&text[..text.len() - 1]),
            _ if opened == 1 && !text.starts_with('.') && text.ends_with(';') => {
                return Line::Instruction(Instruction::parse(&text[..text.len() - 1]));
            }
            _ => {}
        }
        Line::Other(text)
    }

    fn text(&self) -> String {
        match self {
            Line::Label(name) => format!("{name}:"),
            Line::Other(text) => (*text).to_string(),
            Line::Instruction(Instruction { guard, name, operands }) => {
                let guard = guard.map_or(String::new(), |(p, not)| format!("@{}{p} ", if not { "!" } else { "" }));
                let space = if operands.is_empty() { "" } else { " " };
                format!("{guard}{name}{space}{};", operands.join(", "))
            }
        }
    }
}

impl<'a> Instruction<'a> {
    fn parse(text: &'a str) -> Instruction<'a> {
        let mut text = text.trim();
        let mut guard = None;
        if let Some(rest) = text.strip_prefix('@') {
            let (predicate, rest) = rest.split_once(char::is_whitespace).expect("an instruction follows its guard");
            let name = predicate.trim_start_matches('!');
            guard = Some((name, name.len() < predicate.len()));
            text = rest.trim();
        }
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let mut operands = Vec::new();
        let (mut depth, mut start) = (0, 0);
        for (at, letter) in rest.char_indices() {
            match letter {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    operands.push(rest[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
        }
        if !rest.trim().is_empty() {
            operands.push(rest[start..].trim());
        }
        Instruction { guard, name, operands }
    }

    /// Whether it does something beside writing its first operand.
    fn has_effect(&self) -> bool {
        ["st", "bar", "barrier", "bra", "ret", "exit", "atom", "red", "membar", "fence", "call", "trap"]
            .contains(&self.kind())
    }
    /// The name up to the first dot.
    fn kind(&self) -> &'a str {
        self.name.split('.').next().unwrap_or_default()
    }
    fn is_jump(&self) -> bool {
        matches!(self.kind(), "bra" | "ret" | "exit") && self.guard.is_none()
    }
    fn written(&self) -> impl Iterator<Item = &'a str> {
        let first = if self.has_effect() { "" } else { self.operands.first().copied().unwrap_or_default() };
        registers(first)
    }
    fn read(&self) -> impl Iterator<Item = &'a str> {
        let from = if self.has_effect() { 0 } else { 1 };
        let guard = self.guard.map(|(predicate, _)| predicate);
        self.operands.iter().skip(from).flat_map(|operand| registers(operand)).chain(guard)
    }
}

/// The registers in an operand, which may be a vector, a pair or an address.
fn registers(operand: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '%' | '$' | '.'));
    operand.split(part).filter(|word| word.starts_with('%'))
}

/// What is known of a register that is written once.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Number(i64),
    Truth(bool),
}

/// How often registers are written, and what is known of those that are written once.
fn known<'a>(lines: &[Line<'a>]) -> HashMap<&'a str, Known> {
    let mut writes: HashMap<&str, usize> = HashMap::new();
    for line in lines {
        match line {
            Line::Instruction(instruction) => {
                instruction.written().for_each(|register| *writes.entry(register).or_default() += 1);
            }
            // A scope may write whatever it names.
            Line::Other(text) => registers(text).for_each(|register| *writes.entry(register).or_default() += 2),
            Line::Label(_) => {}
        }
    }
    let mut known = HashMap::new();
    loop {
        let before = known.len();
        for line in lines {
            if let Line::Instruction(instruction) = line
                && instruction.guard.is_none()
                && let Some(&to) = instruction.operands.first()
                && writes.get(to) == Some(&1)
                && !known.contains_key(to)
                && let Some(value) = evaluate(instruction, &known)
            {
                known.insert(to, value);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// The value that an instruction gives, where its operands tell.
fn evaluate(instruction: &Instruction<'_>, known: &HashMap<&str, Known>) -> Option<Known> {
    let number = |k: usize| {
        let operand = instruction.operands.get(k)?;
        match known.get(operand) {
            Some(Known::Number(x)) => Some(*x),
            Some(Known::Truth(_)) => None,
            None => operand.parse::<i64>().ok(),
        }
    };
    let truth = |k: usize| {
        let operand = instruction.operands.get(k)?;
        let name = operand.trim_start_matches('!');
        match known.get(name) {
            Some(Known::Truth(x)) => Some(*x != (name.len() < operand.len())),
            _ => None,
        }
    };
    let words: Vec<&str> = instruction.name.split('.').collect();
    // 32 bits wide, whichever the sign: the numbers of a plan are far from both ends.
    let narrow = |x: i64| i32::try_from(x).ok().map(|x| Known::Number(x.into()));
    match words.as_slice() {
        ["mov", "b32" | "u32" | "s32" | "b64" | "u64" | "s64"] => Some(Known::Number(number(1)?)),
        ["mov", "pred"] => Some(Known::Truth(truth(1)?)),
        ["setp", comparison, "s32" | "u32" | "b32" | "s64"] => {
            let (a, b) = (number(1)?, number(2)?);
            if words[2] == "u32" && (a < 0 || b < 0) {
                return None;
            }
            Some(Known::Truth(match *comparison {
                "eq" => a == b,
                "ne" => a != b,
                "lt" => a < b,
                "le" => a <= b,
                "gt" => a > b,
                "ge" => a >= b,
                _ => return None,
            }))
        }
        ["and", "pred"] => match (truth(1), truth(2)) {
            (Some(false), _) | (_, Some(false)) => Some(Known::Truth(false)),
            (Some(true), Some(true)) => Some(Known::Truth(true)),
            _ => None,
        },
        ["or", "pred"] => match (truth(1), truth(2)) {
            (Some(true), _) | (_, Some(true)) => Some(Known::Truth(true)),
            (Some(false), Some(false)) => Some(Known::Truth(false)),
            _ => None,
        },
        ["xor", "pred"] => Some(Known::Truth(truth(1)? != truth(2)?)),
        ["not", "pred"] => Some(Known::Truth(!truth(1)?)),
        ["selp", "b32" | "u32" | "s32"] => Some(Known::Number(if truth(3)? { number(1)? } else { number(2)? })),
        ["add", "s32"] => narrow(number(1)? + number(2)?),
        ["sub", "s32"] => narrow(number(1)? - number(2)?),
        ["mul", "lo", "s32"] => narrow(number(1)?.checked_mul(number(2)?)?),
        ["min", "s32"] => Some(Known::Number(number(1)?.min(number(2)?))),
        ["max", "s32"] => Some(Known::Number(number(1)?.max(number(2)?))),
        ["and", "b32"] => Some(Known::Number(number(1)? & number(2)?)),
        ["or", "b32"] => Some(Known::Number(number(1)? | number(2)?)),
        ["shl", "b32"] => narrow(number(1)?.checked_shl(number(2)?.try_into().ok()?)?),
        ["shr", "s32"] => Some(Known::Number(number(1)?.checked_shr(number(2)?.try_into().ok()?)?)),
        ["shr", "u32"] if number(1)? >= 0 => Some(Known::Number(number(1)?.checked_shr(number(2)?.try_into().ok()?)?)),
        _ => None,
    }
}

/// Decides branches, guards and selections; whether any was.
fn decide(lines: &mut Vec<Line<'_>>) -> bool {
    let known = known(lines);
    let mut changed = false;
    for line in lines.iter_mut() {
        let Line::Instruction(instruction) = line else { continue };
        if let Some((predicate, not)) = instruction.guard
            && let Some(Known::Truth(holds)) = known.get(predicate)
        {
            changed = true;
            if *holds == not {
                *line = Line::Other("");
                continue;
            }
            instruction.guard = None;
        }
        // x = yes or no, of which one is known to be taken.
        if instruction.kind() == "selp"
            && let Some(Known::Truth(holds)) = known.get(instruction.operands[3])
        {
            changed = true;
            let (to, from) = (instruction.operands[0], instruction.operands[if *holds { 1 } else { 2 }]);
            instruction.name = match instruction.name {
                "selp.f32" => "mov.f32",
                "selp.b64" | "selp.u64" | "selp.s64" => "mov.b64",
                "selp.b16" | "selp.u16" | "selp.s16" => "mov.b16",
                _ => "mov.b32",
            };
            instruction.operands = vec![to, from];
        }
        // p and true, p or false, are p.
        if let ("and.pred" | "or.pred", [to, a, b]) = (instruction.name, instruction.operands.as_slice()) {
            let neutral = Known::Truth(instruction.name == "and.pred");
            let (to, a, b) = (*to, *a, *b);
            let other = match (known.get(a), known.get(b)) {
                (Some(x), _) if *x == neutral => b,
                (_, Some(x)) if *x == neutral => a,
                _ => continue,
            };
            changed = true;
            (instruction.name, instruction.operands) = ("mov.pred", vec![to, other]);
        }
    }
    forward(lines) || changed
}

/// Reads what a register was copied from in place of the copy, where both are written once; predicates through the 0 or 1 that
/// the compiler makes of them for a comment. Whether any was.
fn forward(lines: &mut [Line<'_>]) -> bool {
    let mut writes: HashMap<&str, usize> = HashMap::new();
    for line in lines.iter() {
        match line {
            Line::Instruction(i) => i.written().for_each(|register| *writes.entry(register).or_default() += 1),
            Line::Other(text) => registers(text).for_each(|register| *writes.entry(register).or_default() += 2),
            Line::Label(_) => {}
        }
    }
    let once = |register: &str| writes.get(register) == Some(&1);
    let mut copies: HashMap<&str, &str> = HashMap::new();
    let mut truths: HashMap<&str, &str> = HashMap::new();
    let mut immediates: HashMap<&str, &str> = HashMap::new();
    for line in lines.iter() {
        let Line::Instruction(instruction) = line else { continue };
        if instruction.guard.is_some() {
            continue;
        }
        match (instruction.name, instruction.operands.as_slice()) {
            ("mov.f32" | "mov.b32" | "mov.u32", &[to, from]) if once(to) && is_immediate(from) => {
                immediates.insert(to, from);
            }
            ("mov.f32" | "mov.b32" | "mov.u32" | "mov.pred" | "mov.u64" | "mov.b64", &[to, from])
                if to != from && once(to) && from.starts_with('%') && once(from) && kind_of(to) == kind_of(from) =>
            {
                copies.insert(to, from);
            }
            ("selp.u32" | "selp.b32" | "selp.s32", &[to, "1", "0", from]) if once(to) && once(from) => {
                truths.insert(to, from);
            }
            _ => {}
        }
    }
    let mut changed = false;
    for line in lines.iter_mut() {
        let Line::Instruction(instruction) = line else { continue };
        if let ("setp.ne.s32", &[to, number, "0"]) = (instruction.name, instruction.operands.as_slice())
            && let Some(&truth) = truths.get(number)
        {
            changed = true;
            (instruction.name, instruction.operands) = ("mov.pred", vec![to, truth]);
        }
        if let Some((predicate, _)) = &mut instruction.guard
            && let Some(&from) = copies.get(predicate)
        {
            changed = true;
            *predicate = from;
        }
        let skip = usize::from(!instruction.has_effect());
        let takes_immediates = TAKE_IMMEDIATES.contains(&instruction.kind());
        for operand in instruction.operands.iter_mut().skip(skip) {
            let immediate = if takes_immediates { immediates.get(operand) } else { None };
            if let Some(&from) = copies.get(operand).or(immediate) {
                changed = true;
                *operand = from;
            }
        }
    }
    changed
}

/// Instructions whose operands may be numbers.
const TAKE_IMMEDIATES: [&str; 15] =
    ["add", "sub", "mul", "mad", "fma", "min", "max", "setp", "selp", "and", "or", "shl", "shr", "mov", "neg"];

fn is_immediate(operand: &str) -> bool {
    operand.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// The letters of a register's name, which tell its type.
fn kind_of(register: &str) -> &str {
    register.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Drops what no path from the beginning reaches, and labels that nothing jumps to.
fn drop_unreached(lines: &mut Vec<Line<'_>>) {
    let mut at: HashMap<&str, usize> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if let Line::Label(name) = line {
            at.insert(name, index);
        }
    }
    let mut reached = vec![false; lines.len()];
    let mut open = vec![0];
    while let Some(start) = open.pop() {
        for index in start..lines.len() {
            if std::mem::replace(&mut reached[index], true) {
                break;
            }
            if let Line::Instruction(instruction) = &lines[index] {
                if instruction.kind() == "bra" {
                    open.push(at[instruction.operands[0]]);
                }
                if instruction.is_jump() {
                    break;
                }
            }
        }
    }
    let mut index = 0;
    lines.retain(|line| {
        index += 1;
        match line {
            Line::Other(text) => !text.is_empty(),
            _ => reached[index - 1],
        }
    });
    drop_empty_jumps(lines);
}

/// Where a jump ends that leads to another, and to which of several labels in one place.
fn targets<'a>(lines: &[Line<'a>]) -> HashMap<&'a str, &'a str> {
    let mut targets = HashMap::new();
    // From the end: what follows a label is known when the label is met.
    let mut next: Option<&str> = None;
    for line in lines.iter().rev() {
        match line {
            Line::Label(name) => {
                next = Some(next.unwrap_or(name));
                targets.insert(*name, next.unwrap_or(name));
            }
            Line::Instruction(i) if i.is_jump() && i.kind() == "bra" => next = Some(i.operands[0]),
            _ => next = None,
        }
    }
    targets
}

/// Drops jumps to what comes next anyway, and labels that nothing jumps to.
fn drop_empty_jumps(lines: &mut Vec<Line<'_>>) {
    let targets = targets(lines);
    for line in lines.iter_mut() {
        if let Line::Instruction(instruction) = line
            && instruction.kind() == "bra"
        {
            let mut target = instruction.operands[0];
            // A loop without a body would lead around for ever.
            for _ in 0..8 {
                target = targets.get(target).copied().unwrap_or(target);
            }
            instruction.operands[0] = target;
        }
    }
    let mut keep = vec![true; lines.len()];
    let mut wanted = std::collections::HashSet::new();
    for (index, line) in lines.iter().enumerate() {
        let Line::Instruction(instruction) = line else { continue };
        if instruction.kind() == "bra" {
            let target = instruction.operands[0];
            let next = lines[index + 1..].iter().take_while(|l| matches!(l, Line::Label(_)));
            let mut names = next.filter_map(|l| if let Line::Label(name) = l { Some(*name) } else { None });
            if names.any(|name| name == target) {
                keep[index] = false;
            } else {
                wanted.insert(target);
            }
        }
    }
    for (index, line) in lines.iter().enumerate() {
        if let Line::Label(name) = line {
            keep[index] = wanted.contains(name);
        }
    }
    let mut index = 0;
    lines.retain(|_| {
        index += 1;
        keep[index - 1]
    });
}

/// Drops what writes registers that nobody reads.
fn drop_unread(lines: &mut Vec<Line<'_>>) {
    let mut writers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if let Line::Instruction(instruction) = line {
            instruction.written().for_each(|register| writers.entry(register).or_default().push(index));
        }
    }
    let mut live = vec![false; lines.len()];
    let mut open: Vec<usize> = (0..lines.len())
        .filter(|&index| match &lines[index] {
            Line::Instruction(instruction) => instruction.has_effect(),
            _ => true,
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut live[index], true) {
            continue;
        }
        let read: Vec<&str> = match &lines[index] {
            Line::Instruction(instruction) => instruction.read().collect(),
            Line::Other(text) => registers(text).collect(),
            Line::Label(_) => continue,
        };
        for register in read {
            if seen.insert(register) {
                open.extend(writers.get(register).into_iter().flatten());
            }
        }
    }
    let mut index = 0;
    lines.retain(|_| {
        index += 1;
        live[index - 1]
    });
}
