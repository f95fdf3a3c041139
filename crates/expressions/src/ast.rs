//! What an expression is made of, after macros have been expanded.
//!
//! Comprehensions are nodes of their own rather than cel-spec's folds: they are evaluated directly, without building
//! a new list at each step.

/// One node. `id` is unique within the expression: what the checker finds out is kept by it.
#[derive(Clone, Debug)]
pub struct Expr {
    pub id: u32,
    /// Byte offset in the source: where errors point to.
    pub at: u32,
    /// How many levels of nodes there are, from here down.
    pub depth: u32,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Literal(Literal),
    Ident(String),
    Select(Box<Select>),
    Call(Box<Call>),
    /// `a && b && c`, or with `||`.
    Logic {
        all: bool,
        terms: Vec<Expr>,
    },
    Conditional(Box<[Expr; 3]>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct(Box<Struct>),
    Comprehension(Box<Comprehension>),
    Bind(Box<Bind>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(std::sync::Arc<str>),
    Bytes(std::sync::Arc<[u8]>),
    /// The name of a type; the checker makes these of identifiers.
    Type(crate::types::Type),
}

/// `operand.field`, `operand.?field` or `has(operand.field)`.
#[derive(Clone, Debug)]
pub struct Select {
    pub operand: Expr,
    pub field: String,
    pub optional: bool,
    pub test: bool,
}

/// Functions, methods and operators; operators have cel-spec's names, such as `_+_`.
#[derive(Clone, Debug)]
pub struct Call {
    pub function: String,
    /// Whether the first argument stood before the dot.
    pub member: bool,
    pub arguments: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub struct Element {
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

/// `Name{field: value}`.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub value: Expr,
    pub optional: bool,
    pub at: u32,
}

#[derive(Clone, Debug)]
pub struct Comprehension {
    pub macro_: Macro,
    pub range: Expr,
    pub variable: String,
    /// With two variables: index and element, or key and value.
    pub second: Option<String>,
    /// Which elements take part, for the transforming ones.
    pub filter: Option<Expr>,
    pub body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// `map` and `transformList`.
    TransformList,
    TransformMap,
    TransformMapEntry,
    /// The body is what elements are sorted by.
    SortBy,
}

/// `value.optMap(variable, body)`: the body with what the optional holds, as an optional.
#[derive(Clone, Debug)]
pub struct Bind {
    /// `optFlatMap`: the body itself gives an optional.
    pub flat: bool,
    pub variable: String,
    pub value: Expr,
    pub body: Expr,
}

impl Expr {
    /// Calls `visit` on each node directly below this one.
    pub fn children<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select(select) => visit(&select.operand),
            Kind::Call(call) => call.arguments.iter().for_each(visit),
            Kind::Logic { terms, .. } => terms.iter().for_each(visit),
            Kind::Conditional(parts) => parts.iter().for_each(visit),
            Kind::List(elements) => elements.iter().for_each(|element| visit(&element.value)),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                visit(&entry.key);
                visit(&entry.value);
            }),
            Kind::Struct(literal) => literal.fields.iter().for_each(|field| visit(&field.value)),
            Kind::Comprehension(comprehension) => {
                visit(&comprehension.range);
                comprehension.filter.iter().for_each(&mut *visit);
                visit(&comprehension.body);
            }
            Kind::Bind(bind) => {
                visit(&bind.value);
                visit(&bind.body);
            }
        }
    }

    /// Calls `visit` on this node and all below it, parents first.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        visit(self);
        self.children(&mut |child| child.walk(visit));
    }
}
