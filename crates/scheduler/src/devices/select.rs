//! Choosing devices by CEL expressions over what their driver tells of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use api::quantity::Quantity;
use expressions::value::{Key, Map, Opaque, Text};
use expressions::{Bindings, Budget, Program, Value, devices};
use k8s_openapi::api::resource::v1::DeviceAttribute;

use super::Offered;

/// Expressions and results kept.
const KEPT: usize = 100_000;

/// Expressions compiled, and what they have said of devices.
#[derive(Default)]
pub struct Selectors(Mutex<Known>);

/// By expression and place in the slice.
type Answers = HashMap<(String, usize), Result<bool, String>>;

#[derive(Default)]
struct Known {
    programs: HashMap<String, Result<Program, String>>,
    /// By slice.
    answers: HashMap<String, Answers>,
}

impl Selectors {
    /// What was said of a slice's devices holds no more.
    pub fn forget(&self, slice: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answers.remove(slice);
    }

    pub fn selects(&self, expression: &str, offered: &Offered<'_>) -> Result<bool, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slice = offered.slice.metadata.name.clone().unwrap_or_default();
        let key = (expression.to_owned(), offered.index);
        if let Some(answer) = known.answers.get(&slice).and_then(|answers| answers.get(&key)) {
            return answer.clone();
        }
        if known.programs.len() > KEPT || known.answers.values().map(HashMap::len).sum::<usize>() > KEPT {
            *known = Known::default();
        }
        let program =
            known.programs.entry(expression.to_owned()).or_insert_with(|| compile(expression)).clone();
        let answer = program.and_then(|program| evaluate(&program, offered));
        known.answers.entry(slice).or_default().insert(key, answer.clone());
        answer
    }
}

fn compile(expression: &str) -> Result<Program, String> {
    devices::compile(expression).map_err(|error| error.to_string())
}

fn evaluate(program: &Program, offered: &Offered<'_>) -> Result<bool, String> {
    let device = offered.device;
    let driver = &offered.slice.spec.driver;
    let mut attributes = Domains::new(program.source(), "attributes");
    for (name, attribute) in device.attributes.iter().flatten() {
        if let Some(value) = value_of(attribute) {
            attributes.insert(name, driver, value);
        }
    }
    let mut capacity = Domains::new(program.source(), "capacity");
    for (name, amount) in device.capacity.iter().flatten() {
        if let Ok(amount) = Quantity::parse(&amount.value.0) {
            capacity.insert(name, driver, Value::opaque(Opaque::Quantity(amount)));
        }
    }
    let fields = [
        ("driver", Value::from(driver.clone())),
        ("attributes", attributes.value()),
        ("capacity", capacity.value()),
        ("allowMultipleAllocations", Value::from(device.allow_multiple_allocations == Some(true))),
    ];
    let fields = fields.map(|(name, value)| (key(name), value));
    let mut variables = Bindings::new();
    variables.set("device", Value::Map(Map::made(fields.into())));
    let value = program
        .evaluate(&variables, &mut Budget::new(devices::MOST, devices::MOST))
        .map_err(|error| error.to_string())?;
    value.as_bool().ok_or_else(|| "a selector must evaluate to a bool".to_owned())
}

fn key(name: &str) -> Key<'static> {
    Key::String(Text::Shared(name.into()))
}

fn value_of(attribute: &DeviceAttribute) -> Option<Value<'static>> {
    if let Some(text) = &attribute.string {
        return Some(Value::from(text.clone()));
    }
    if let Some(value) = attribute.bool {
        return Some(Value::from(value));
    }
    if let Some(value) = attribute.int {
        return Some(Value::Int(value));
    }
    let version = attribute.version.as_ref()?;
    Some(Value::opaque(Opaque::Semver(semver::Version::parse(version).ok()?.into())))
}

/// Values by domain and name. A domain that the expression asks for is there, if empty.
struct Domains(BTreeMap<String, BTreeMap<Key<'static>, Value<'static>>>);

impl Domains {
    fn new(source: &str, field: &str) -> Self {
        let asked = source.split(field).skip(1).filter_map(|rest| {
            let rest = rest.trim_start().strip_prefix('[')?.trim_start();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            rest.get(1..)?.split(quote).next().map(str::to_owned)
        });
        Self(asked.map(|domain| (domain, BTreeMap::new())).collect())
    }

    /// A name without a domain is in its driver's.
    fn insert(&mut self, name: &str, driver: &str, value: Value<'static>) {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        self.0.entry(domain.to_owned()).or_default().insert(key(name), value);
    }

    fn value(self) -> Value<'static> {
        let domains =
            self.0.into_iter().map(|(domain, values)| (key(&domain), Value::Map(Map::made(values))));
        Value::Map(Map::made(domains.collect()))
    }
}
