//! Tokens to the tree of a module, by recursive descent.

use super::Problem;
use super::lexer::{Lexeme, Token, lex};
use super::syntax::*;

type Result<T> = std::result::Result<T, Problem>;

/// Parses a whole module.
pub(crate) fn parse(text: &str) -> Result<Module<'_>> {
    Parser { lexemes: lex(text)?, at: 0 }.module()
}

struct Parser<'a> {
    lexemes: Vec<Lexeme<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.peek_at(0)
    }
    fn peek_at(&self, ahead: usize) -> Option<Token<'a>> {
        self.lexemes.get(self.at + ahead).map(|lexeme| lexeme.token)
    }
    fn line(&self) -> u32 {
        self.lexemes.get(self.at).or(self.lexemes.last()).map_or(0, |lexeme| lexeme.line)
    }
    fn problem<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Problem::new(self.line(), message))
    }
    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        match self.peek() {
            Some(token) => self.problem(format!("expected {wanted}, found {token:?}")),
            None => self.problem(format!("expected {wanted}, found the end")),
        }
    }
    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }
    fn is(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(Token::Symbol(symbol));
        self.at += found as usize;
        found
    }
    fn expect(&mut self, symbol: char) -> Result<()> {
        if self.is(symbol) { Ok(()) } else { self.unexpected(&format!("'{symbol}'")) }
    }
    fn name(&mut self) -> Result<&'a str> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }
    /// The next directive or modifier, if it is one.
    fn dot(&mut self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Dot(word)) => {
                self.at += 1;
                Some(word)
            }
            _ => None,
        }
    }
    fn integer(&mut self) -> Result<i64> {
        let negative = self.is('-');
        match self.peek() {
            Some(Token::Integer(value)) => {
                self.at += 1;
                Ok(if negative { (value as i64).wrapping_neg() } else { value as i64 })
            }
            _ => self.unexpected("an integer"),
        }
    }
    fn size(&mut self) -> Result<usize> {
        match self.integer()? {
            value @ 0..0x1_0000_0000 => Ok(value as usize),
            value => self.problem(format!("no size: {value}")),
        }
    }
    /// `item, item, …` up to and with the closing symbol.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        if self.is(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if !self.is(',') {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }
    /// Everything up to the end of this line, of directives that only debuggers read.
    fn skip_line(&mut self) {
        let line = self.lexemes[self.at - 1].line;
        while self.lexemes.get(self.at).is_some_and(|lexeme| lexeme.line == line) {
            self.at += 1;
        }
    }
    fn skip_braces(&mut self) -> Result<()> {
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.take() {
                Some(Token::Symbol('{')) => depth += 1,
                Some(Token::Symbol('}')) => depth -= 1,
                Some(_) => {}
                None => return self.unexpected("'}'"),
            }
        }
        Ok(())
    }

    fn module(mut self) -> Result<Module<'a>> {
        let mut module = Module::default();
        while self.peek().is_some() {
            let line = self.line();
            let Some(word) = self.dot() else { return self.unexpected("a directive") };
            match word {
                "version" => module.version = self.version()?,
                "target" => {
                    module.target = self.name()?;
                    while self.is(',') {
                        self.name()?;
                    }
                }
                "address_size" => {
                    if self.integer()? != 64 {
                        return self.problem("addresses are of 64 bits");
                    }
                }
                "file" | "loc" => self.skip_line(),
                "pragma" => {
                    self.take();
                    self.expect(';')?;
                }
                "section" => {
                    self.dot();
                    self.skip_braces()?;
                }
                "visible" | "extern" | "weak" | "common" => {}
                "entry" | "func" => module.functions.push(self.function(word == "entry", line)?),
                _ => match Space::parse(word) {
                    Some(space) => module.variables.extend(self.variables(space, line)?),
                    None => return self.problem(format!("unknown directive .{word}")),
                },
            }
        }
        if module.version == (0, 0) || module.target.is_empty() {
            return Err(Problem::new(1, "no .version and .target"));
        }
        Ok(module)
    }

    fn version(&mut self) -> Result<(u32, u32)> {
        let Some(Token::Double(bits)) = self.take() else { return self.unexpected("a version") };
        let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
        Ok((tenths / 10, tenths % 10))
    }

    /// What follows `.global` and its like, up to the semicolon: several names may share a type.
    fn variables(&mut self, space: Space, line: u32) -> Result<Vec<Variable<'a>>> {
        let mut variables = vec![self.variable(space, line)?];
        while self.is(',') {
            let Variable { ty, align, .. } = variables[0];
            variables.push(self.declarator(space, ty, align, line)?);
        }
        self.expect(';')?;
        Ok(variables)
    }
    fn variable(&mut self, space: Space, line: u32) -> Result<Variable<'a>> {
        let (mut ty, mut align, mut vector) = (None, None, 1);
        while let Some(word) = self.dot() {
            match word {
                "align" => align = Some(self.size()?),
                "ptr" | "attribute" | "managed" => {}
                "v2" => vector = 2,
                "v4" => vector = 4,
                "global" | "shared" | "local" | "const" if space == Space::Param => {}
                _ => match Type::parse(word) {
                    Some(parsed) => ty = Some(parsed),
                    None => return self.problem(format!("unknown type .{word}")),
                },
            }
        }
        let Some(ty) = ty else { return self.unexpected("a type") };
        let mut variable = self.declarator(space, ty, align.unwrap_or(vector * ty.size()), line)?;
        variable.count = variable.count.map(|count| count * vector);
        Ok(variable)
    }
    fn declarator(&mut self, space: Space, ty: Type, align: usize, line: u32) -> Result<Variable<'a>> {
        let name = self.name()?;
        let mut count = Some(1);
        while self.is('[') {
            if self.is(']') {
                count = None;
            } else {
                let extent = self.size()?;
                count = count.map(|count: usize| count.saturating_mul(extent));
                self.expect(']')?;
            }
        }
        let initial = if self.is('=') {
            let mut elements = Vec::new();
            self.initials(&mut elements)?;
            count = count.or(Some(elements.len()));
            Some(elements)
        } else {
            None
        };
        if !align.is_power_of_two() {
            return self.problem(format!("an alignment of {align}"));
        }
        Ok(Variable { space, name, ty, align, count, initial, line })
    }
    /// Nested braces are rows of one array, whose elements lie one after the other.
    fn initials(&mut self, elements: &mut Vec<Initial<'a>>) -> Result<()> {
        if self.is('{') {
            while !self.is('}') {
                self.initials(elements)?;
                self.is(',');
            }
            return Ok(());
        }
        let negative = self.is('-');
        elements.push(match self.take() {
            Some(Token::Integer(value)) if negative => Initial::Bits(value.wrapping_neg()),
            Some(Token::Integer(value)) => Initial::Bits(value),
            Some(Token::Single(bits)) => Initial::Bits(bits as u64),
            Some(Token::Double(bits)) => Initial::Number(if negative { bits ^ 1 << 63 } else { bits }),
            Some(Token::Name("generic")) => {
                self.expect('(')?;
                let name = self.name()?;
                let offset = self.offset()?;
                self.expect(')')?;
                Initial::Address(name, offset)
            }
            Some(Token::Name(name)) => Initial::Address(name, self.offset()?),
            _ => return self.problem("an initialiser that is neither number nor address"),
        });
        Ok(())
    }
    fn offset(&mut self) -> Result<i64> {
        if self.is('+') || self.peek() == Some(Token::Symbol('-')) { self.integer() } else { Ok(0) }
    }

    fn function(&mut self, is_entry: bool, line: u32) -> Result<Function<'a>> {
        let parameter = |parser: &mut Self| {
            let line = parser.line();
            match parser.dot() {
                Some("param") => parser.variable(Space::Param, line),
                // Functions that pass values in registers exist in old texts only.
                _ => parser.unexpected(".param"),
            }
        };
        let returns = if self.is('(') { self.list(')', parameter)? } else { Vec::new() };
        let name = self.name()?;
        let parameters = if self.is('(') { self.list(')', parameter)? } else { Vec::new() };
        let (mut max_threads, mut required) = ([0; 3], false);
        while let Some(word) = self.dot() {
            match word {
                "maxntid" | "reqntid" => {
                    max_threads = [self.size()? as u32, 1, 1];
                    for extent in &mut max_threads[1..] {
                        if self.is(',') {
                            *extent = self.size()? as u32;
                        }
                    }
                    required = word == "reqntid";
                }
                "minnctapersm" | "maxnctapersm" | "maxnreg" => {
                    self.size()?;
                }
                "noreturn" => {}
                "pragma" => {
                    self.take();
                    self.expect(';')?;
                }
                _ => return self.problem(format!("unknown directive .{word} of a function")),
            }
        }
        let body = if self.is(';') {
            None
        } else {
            self.expect('{')?;
            Some(self.body()?)
        };
        Ok(Function { name, is_entry, returns, parameters, body, max_threads, required, line })
    }

    /// Statements up to and with the closing brace.
    fn body(&mut self) -> Result<Vec<Statement<'a>>> {
        let mut statements = Vec::new();
        loop {
            let line = self.line();
            if self.is('}') {
                return Ok(statements);
            } else if self.is('{') {
                statements.push(Statement::Scope(self.body()?));
            } else if self.is(';') {
                // An empty statement.
            } else if let Some(word) = self.dot() {
                match word {
                    "loc" | "file" => self.skip_line(),
                    "pragma" => {
                        self.take();
                        self.expect(';')?;
                    }
                    "reg" => self.registers(&mut statements)?,
                    _ => match Space::parse(word) {
                        Some(space) => {
                            statements.extend(self.variables(space, line)?.into_iter().map(Statement::Variable))
                        }
                        None => return self.problem(format!("unknown directive .{word}")),
                    },
                }
            } else if let (Some(Token::Name(label)), Some(Token::Symbol(':'))) = (self.peek(), self.peek_at(1)) {
                self.at += 2;
                self.labelled(label, &mut statements)?;
            } else {
                statements.push(Statement::Instruction(self.instruction(line)?));
            }
        }
    }
    fn registers(&mut self, statements: &mut Vec<Statement<'a>>) -> Result<()> {
        let mut ty = None;
        while let Some(word) = self.dot() {
            ty = Type::parse(word);
        }
        let Some(ty) = ty else { return self.unexpected("a type of registers") };
        loop {
            let name = self.name()?;
            let count = if self.is('<') {
                let count = self.size()? as u32;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            statements.push(Statement::Registers { ty, name, count });
            if !self.is(',') {
                return self.expect(';');
            }
        }
    }
    /// What a label stands before: an instruction, or a list that belongs to one.
    fn labelled(&mut self, label: &'a str, statements: &mut Vec<Statement<'a>>) -> Result<()> {
        match self.peek() {
            Some(Token::Dot("branchtargets")) => {
                self.at += 1;
                let targets = self.list(';', Self::name)?;
                statements.push(Statement::BranchTargets(label, targets));
            }
            Some(Token::Dot("callprototype" | "calltargets")) => {
                while self.take() != Some(Token::Symbol(';')) {
                    if self.peek().is_none() {
                        return self.unexpected("';'");
                    }
                }
            }
            _ => statements.push(Statement::Label(label)),
        }
        Ok(())
    }
    fn instruction(&mut self, line: u32) -> Result<Instruction<'a>> {
        let guard = if self.is('@') {
            let negated = self.is('!');
            Some((self.name()?, negated))
        } else {
            None
        };
        let opcode = self.name()?;
        let mut modifiers = Vec::new();
        while let Some(word) = self.dot() {
            modifiers.push(word);
        }
        let operands = self.list(';', Self::operand)?;
        Ok(Instruction { guard, opcode, modifiers, operands, line })
    }
    fn operand(&mut self) -> Result<Operand<'a>> {
        match self.take() {
            Some(Token::Name(name)) => match self.peek() {
                Some(Token::Dot(part)) => {
                    self.at += 1;
                    Ok(Operand::Part(name, part))
                }
                Some(Token::Symbol('|')) => {
                    self.at += 1;
                    Ok(Operand::Pair(name, self.name()?))
                }
                Some(Token::Symbol('+' | '-')) => Ok(Operand::Address(Some(name), self.offset()?)),
                _ => Ok(Operand::Name(name)),
            },
            Some(Token::Integer(value)) => Ok(Operand::Integer(value)),
            Some(Token::Single(bits)) => Ok(Operand::Single(bits)),
            Some(Token::Double(bits)) => Ok(Operand::Double(bits)),
            Some(Token::Symbol('-')) => match self.take() {
                Some(Token::Integer(value)) => Ok(Operand::Integer(value.wrapping_neg())),
                Some(Token::Double(bits)) => Ok(Operand::Double(bits ^ 1 << 63)),
                _ => self.problem("a sign without a number"),
            },
            Some(Token::Symbol('!')) => Ok(Operand::Not(self.name()?)),
            Some(Token::Symbol('{')) => Ok(Operand::Vector(self.list('}', Self::operand)?)),
            Some(Token::Symbol('(')) => Ok(Operand::List(self.list(')', Self::operand)?)),
            Some(Token::Symbol('[')) => {
                let base = match self.peek() {
                    Some(Token::Name(name)) => {
                        self.at += 1;
                        Some(name)
                    }
                    _ => None,
                };
                let offset = if base.is_some() { self.offset()? } else { self.integer()? };
                self.expect(']')?;
                Ok(Operand::Address(base, offset))
            }
            _ => self.problem("no operand"),
        }
    }
}
