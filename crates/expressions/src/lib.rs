//! CEL, the Common Expression Language, as Kubernetes has it: validation rules, admission policies, match conditions,
//! claim mappings.
//!
//! An [`Environment`] says which variables there are and of what type; [`Program::compile`] parses and checks an
//! expression against it; [`Program::evaluate`] gives its value within a [`Budget`]. Nothing here does I/O, objects
//! are referred to rather than copied, and neither a source nor an object can make it panic, run on or fill memory.
//!
//! Own rather than the `cel` crate's: Kubernetes needs types checked before use, schemas to tell what JSON means,
//! costs estimated and counted, and values that borrow; that crate evaluates untyped values that are copied.
//!
//! `parse` → `check` → `estimate` when compiled, `run` when evaluated; `functions` declares what may be called.

pub mod admission;
mod ast;
pub mod authorizer;
pub mod budget;
mod check;
pub mod devices;
mod environment;
mod error;
pub mod escape;
mod estimate;
mod formats;
mod functions;
#[doc(hidden)]
pub mod fuzz;
mod parse;
pub mod policy;
mod program;
mod reserved;
mod run;
pub mod schema;
pub mod types;
mod url;
pub mod value;

pub use budget::Budget;
pub use environment::{Environment, JSON_PATCH, OBJECT};
pub use error::{CompileError, EvalError};
pub use program::{Bindings, Program};
pub use run::Variables;
pub use types::Type;
pub use value::Value;
