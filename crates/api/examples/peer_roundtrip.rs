//! Lines of {gvk, pb, json} from a peer: decoded and compared; written back from JSON for the peer to compare.
use base64::Engine;
use serde_json::{Value, json};
use std::io::{BufRead, Write};

fn norm(v: &Value) -> Value {
    match v {
        Value::Object(m) => Value::Object(m.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), norm(v))).collect()),
        Value::Array(a) => Value::Array(a.iter().map(norm).collect()),
        v => v.clone(),
    }
}
fn diff(p: &str, w: &Value, g: &Value) {
    match (w, g) {
        (Value::Object(w), Value::Object(g)) => {
            for (k, v) in w {
                match g.get(k) {
                    None => eprintln!("   lost {p}.{k} ({v})"),
                    Some(o) => diff(&format!("{p}.{k}"), v, o),
                }
            }
            for (k, v) in g {
                if !w.contains_key(k) {
                    eprintln!("   extra {p}.{k} ({v})");
                }
            }
        }
        (Value::Array(w), Value::Array(g)) if w.len() == g.len() => {
            for (i, (a, b)) in w.iter().zip(g).enumerate() {
                diff(&format!("{p}[{i}]"), a, b);
            }
        }
        _ if w != g => eprintln!("   {p} want {w} got {g}"),
        _ => {}
    }
}
fn main() {
    let b64 = base64::engine::general_purpose::STANDARD;
    let (mut n, mut bad) = (0, 0);
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for line in std::io::stdin().lock().lines() {
        let rec: Value = serde_json::from_str(&line.unwrap()).unwrap();
        n += 1;
        let pb = b64.decode(rec["pb"].as_str().unwrap()).unwrap();
        match api::codec::protobuf::decode(&pb) {
            Err(e) => { bad += 1; eprintln!("{} decode: {e}", rec["gvk"]); }
            Ok(v) => {
                let (w, g) = (norm(&rec["json"]), norm(&v));
                if w != g { bad += 1; eprintln!("{}", rec["gvk"]); diff("", &w, &g); }
            }
        }
        match api::codec::protobuf::encode(&rec["json"]) {
            Err(e) => { bad += 1; eprintln!("{} encode: {e}", rec["gvk"]); }
            Ok(bytes) => { writeln!(out, "{}", json!({"gvk": rec["gvk"], "pb": b64.encode(&bytes), "json": rec["json"]})).unwrap(); }
        }
    }
    eprintln!("{n} objects, {bad} bad");
}
