//! Comprehensions, and `optMap`.

use std::collections::BTreeMap;

use super::Interpreter;
use super::cost::{LIST, MAP, STEP, sorting};
use crate::ast::{Bind, Comprehension, Macro};
use crate::error::EvalError;
use crate::functions::{Evaluated, by_keys};
use crate::value::{Key, List, Map, Value};

/// What has been gathered so far.
#[derive(Default)]
struct Gathered<'a> {
    failed: Option<EvalError>,
    count: usize,
    list: Vec<Value<'a>>,
    /// What the elements of the list are sorted by.
    keys: Vec<Value<'a>>,
    map: BTreeMap<Key<'a>, Value<'a>>,
}

impl<'p, 'a> Interpreter<'p, '_, 'a> {
    pub(super) fn comprehension(&mut self, comprehension: &'p Comprehension) -> Evaluated<'a> {
        let mut gathered = Gathered::default();
        let decided = match self.evaluate(&comprehension.range)? {
            Value::List(list) => self.over_list(comprehension, &list, &mut gathered)?,
            Value::Map(_) if comprehension.macro_ == Macro::SortBy => return Err(EvalError::NoSuchOverload),
            Value::Map(map) => self.over_map(comprehension, &map, &mut gathered)?,
            _ => return Err(EvalError::NoSuchOverload),
        };
        if let Some(value) = decided {
            return Ok(Value::Bool(value));
        }
        if let Some(error) = gathered.failed {
            return Err(error);
        }
        Ok(match comprehension.macro_ {
            Macro::All => Value::Bool(true),
            Macro::Exists => Value::Bool(false),
            Macro::ExistsOne => Value::Bool(gathered.count == 1),
            Macro::Filter | Macro::TransformList => Value::list(gathered.list),
            Macro::SortBy => {
                self.budget.charge(sorting(gathered.keys.len() as u64))?;
                by_keys(gathered.list, &gathered.keys, self.budget)?
            }
            Macro::TransformMap | Macro::TransformMapEntry => Value::Map(Map::made(gathered.map)),
        })
    }

    fn over_list(
        &mut self,
        comprehension: &'p Comprehension,
        list: &List<'a>,
        gathered: &mut Gathered<'a>,
    ) -> Result<Option<bool>, EvalError> {
        for (index, element) in list.iter().enumerate() {
            let key = Value::Int(index as i64);
            let (single, second) = match &comprehension.second {
                Some(_) => (key, Some(element)),
                None => (element, None),
            };
            if let Some(decided) = self.step(comprehension, single, second, gathered)? {
                return Ok(Some(decided));
            }
        }
        Ok(None)
    }

    fn over_map(
        &mut self,
        comprehension: &'p Comprehension,
        map: &Map<'a>,
        gathered: &mut Gathered<'a>,
    ) -> Result<Option<bool>, EvalError> {
        self.budget.work(map.len())?;
        for key in map.keys() {
            let second = comprehension.second.as_ref().map(|_| map.get(&key).unwrap_or(Value::Null));
            if let Some(decided) = self.step(comprehension, key.value(), second, gathered)? {
                return Ok(Some(decided));
            }
        }
        Ok(None)
    }

    /// One element. Gives a value as soon as it is known whatever follows.
    fn step(
        &mut self,
        comprehension: &'p Comprehension,
        first: Value<'a>,
        second: Option<Value<'a>>,
        gathered: &mut Gathered<'a>,
    ) -> Result<Option<bool>, EvalError> {
        self.budget.charge(STEP)?;
        self.budget.work(1)?;
        let depth = self.locals.len();
        let element = first.clone();
        let key = if second.is_some() { Key::of(&first) } else { None };
        self.locals.push((&comprehension.variable, first));
        if let (Some(name), Some(value)) = (&comprehension.second, second) {
            self.locals.push((name, value));
        }
        let taken = match &comprehension.filter {
            Some(filter) => self.evaluate(filter),
            None => Ok(Value::Bool(true)),
        };
        let body = match taken {
            Ok(Value::Bool(true)) => Some(self.evaluate(&comprehension.body)),
            Ok(Value::Bool(false)) => None,
            Ok(_) => Some(Err(EvalError::NoSuchOverload)),
            Err(error) => Some(Err(error)),
        };
        self.locals.truncate(depth);
        match body {
            Some(body) => self.gather(comprehension.macro_, element, key, body, gathered),
            None => Ok(None),
        }
    }

    fn gather(
        &mut self,
        macro_: Macro,
        element: Value<'a>,
        key: Option<Key<'a>>,
        body: Evaluated<'a>,
        gathered: &mut Gathered<'a>,
    ) -> Result<Option<bool>, EvalError> {
        const ELEMENT: usize = size_of::<Value<'static>>();
        // `all` and `exists` are chains of `&&` and `||`: an element that decides makes up for errors of others.
        if let Macro::All | Macro::Exists = macro_ {
            let decisive = macro_ == Macro::Exists;
            match body {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Some(value)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => _ = gathered.failed.get_or_insert(EvalError::NoSuchOverload),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => _ = gathered.failed.get_or_insert(error),
            }
            return Ok(None);
        }
        match (macro_, body?) {
            (Macro::ExistsOne, Value::Bool(value)) => gathered.count += usize::from(value),
            (Macro::Filter, Value::Bool(false)) => {}
            (Macro::Filter, Value::Bool(true)) => {
                self.budget.charge(LIST)?;
                self.budget.work(ELEMENT)?;
                gathered.list.push(element);
            }
            (Macro::TransformList, value) => {
                self.budget.charge(LIST)?;
                self.budget.work(ELEMENT)?;
                gathered.list.push(value);
            }
            (Macro::SortBy, key) => {
                self.budget.charge(LIST)?;
                self.budget.work(2 * ELEMENT)?;
                gathered.list.push(element);
                gathered.keys.push(key);
            }
            (Macro::TransformMap, value) => {
                self.budget.charge(MAP)?;
                self.budget.work(2 * ELEMENT)?;
                let key = key.ok_or(EvalError::NoSuchOverload)?;
                gathered.map.insert(key, value);
            }
            (Macro::TransformMapEntry, Value::Map(entries)) => {
                self.budget.charge(MAP)?;
                self.budget.work(entries.len().saturating_mul(2 * ELEMENT))?;
                for key in entries.keys() {
                    let value = entries.get(&key).unwrap_or(Value::Null);
                    if gathered.map.insert(key, value).is_some() {
                        return Err(EvalError::failed("insert failed: key already exists"));
                    }
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        Ok(None)
    }

    pub(super) fn bind(&mut self, bind: &'p Bind) -> Evaluated<'a> {
        let value = match self.evaluate(&bind.value)? {
            Value::Optional(Some(held)) => (*held).clone(),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            _ => return Err(EvalError::NoSuchOverload),
        };
        self.budget.charge(STEP)?;
        self.locals.push((&bind.variable, value));
        let body = self.evaluate(&bind.body);
        self.locals.pop();
        match (bind.flat, body?) {
            (false, value) => Ok(Value::some(value)),
            (true, value @ Value::Optional(_)) => Ok(value),
            (true, _) => Err(EvalError::NoSuchOverload),
        }
    }
}
