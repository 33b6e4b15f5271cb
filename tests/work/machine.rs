//! A virtual machine that counts instructions, with the host functions that the filter calls.

use std::collections::BTreeMap;

use mesh_authz::document::from_json;
use mesh_authz::request::Headers;
use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use mesh_authz::request::owned::encode_value;
use mesh_authz::wire::{Field, Fields};
use serde_json::{Value, json};
use wasmi::{Caller, Config, Engine, Extern, Func, Instance, Linker, Memory, Module, Store, Val, ValType};

use crate::mix::{Call, ORDINARY_HEADERS};

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const PLENTY: u64 = 1 << 60;

/// What the host answers, and what it was told.
#[derive(Default)]
struct Host {
    configuration: Vec<u8>,
    properties: BTreeMap<String, Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    status: Option<i32>,
    log: Vec<String>,
    metrics: u32,
}

pub struct Machine {
    store: Store<Host>,
    instance: Instance,
    contexts: i32,
}

impl Machine {
    /// Starts the filter with this configuration.
    pub fn start(configuration: &Value) -> Self {
        let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/mesh_authz.wasm");
        let module = std::fs::read(module).expect("dist/mesh_authz.wasm: run `make build`");
        let mut config = Config::default();
        config.consume_fuel(true);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, &module[..]).unwrap();
        let host = Host { configuration: serde_json::to_vec(configuration).unwrap(), ..Host::default() };
        let mut store = Store::new(&engine, host);
        store.set_fuel(PLENTY).unwrap();
        let mut linker = <Linker<Host>>::new(&engine);
        for import in module.imports() {
            let function = import.ty().func().unwrap().clone();
            let name = import.name().to_owned();
            let define = move |caller: Caller<'_, Host>, arguments: &[Val], results: &mut [Val]| {
                let arguments: Vec<u32> =
                    arguments.iter().map(|value| value.i32().unwrap_or_default().cast_unsigned()).collect();
                let answer = answer(caller, &name, &arguments);
                if let Some(result) = results.first_mut() {
                    *result = Val::I32(answer);
                }
                Ok(())
            };
            assert!(function.results().iter().all(|result| *result == ValType::I32), "{}", import.name());
            linker.func_new(import.module(), import.name(), function, define).unwrap();
        }
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let mut machine = Self { store, instance, contexts: 1 };
        machine.call("_initialize", &[]);
        machine.call("proxy_on_context_create", &[1, 0]);
        machine.call("proxy_on_vm_start", &[1, 0]);
        let length = machine.store.data().configuration.len();
        let accepted = machine.call("proxy_on_configure", &[1, length.try_into().unwrap()]);
        assert_eq!(accepted, 1, "{:?}", machine.store.data().log);
        machine
    }

    /// Sends a request through the filter. Returns the status of the response, and how many instructions the filter
    /// has executed.
    pub fn request(&mut self, call: &Call) -> (i32, u64) {
        let Call { principal, source_ip, method, host, path, headers, claims } = call;
        let pseudo = [(":method", *method), (":path", path), (":authority", host), (":scheme", "https")];
        let further = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let host = self.store.data_mut();
        host.status = None;
        host.headers = (pseudo.into_iter().chain(ORDINARY_HEADERS).chain(further))
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let peer = format!("spiffe://{principal}");
        host.properties = [
            ("filter_state.mesh_authz.peer", format!("{source_ip}\n8080\n{peer}")),
            ("connection.uri_san_peer_certificate", peer),
            ("source.address", format!("{source_ip}:40000")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
        if let Some(claims) = claims {
            host.properties.insert("metadata".to_owned(), metadata(claims));
        }
        self.contexts += 1;
        let number = self.contexts;
        let count = self.store.data().headers.len().try_into().unwrap();
        self.store.set_fuel(PLENTY).unwrap();
        self.call("proxy_on_context_create", &[number, 1]);
        self.call("proxy_on_request_headers", &[number, count, 1]);
        let instructions = PLENTY - self.store.get_fuel().unwrap();
        (self.store.data().status.unwrap_or(200), instructions)
    }

    /// Calls an exported function. Returns its result, or 0.
    fn call(&mut self, name: &str, arguments: &[i32]) -> i32 {
        let function = self.instance.get_func(&self.store, name).unwrap_or_else(|| panic!("no export {name}"));
        let arguments: Vec<_> = arguments.iter().map(|argument| Val::I32(*argument)).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function.call(&mut self.store, &arguments, &mut results).unwrap();
        results.first().and_then(Val::i32).unwrap_or_default()
    }
}

/// What `jwt_authn` makes of a token with these claims, as an `envoy.config.core.v3.Metadata` message.
fn metadata(claims: &Value) -> Vec<u8> {
    let payload = json!({ DEFAULT_PAYLOAD_KEY: claims }).to_string();
    let value = encode_value(&from_json(payload.as_bytes()).unwrap());
    let Some(Ok((5, Field::Bytes(fields)))) = Fields::of(&value).next() else { panic!("{claims}") };
    field(1, &[field(1, JWT_AUTHN.as_bytes()), field(2, fields)].concat())
}

/// A field of bytes in the protobuf encoding.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap());
    message.extend(bytes);
    message
}

/// Answers a call of the filter. What no decision depends on is taken without a word.
fn answer(mut caller: Caller<'_, Host>, name: &str, arguments: &[u32]) -> i32 {
    let memory = caller.get_export("memory").and_then(Extern::into_memory).unwrap();
    let at = |argument: usize| usize::try_from(arguments[argument]).unwrap();
    match name {
        "proxy_log" => {
            let line = read(&caller, memory, at(1), at(2));
            caller.data_mut().log.push(line);
        }
        "proxy_get_log_level" => write(&mut caller, memory, at(0), &2_u32.to_le_bytes()),
        "proxy_get_current_time_nanoseconds" => {
            // Time passes as instructions are executed. So a search that is bounded by time does as much in every run.
            let elapsed = (PLENTY - caller.get_fuel().unwrap()) / 40;
            write(&mut caller, memory, at(0), &(1_700_000_000_000_000_000 + elapsed).to_le_bytes());
        }
        "proxy_get_buffer_bytes" => {
            let configuration = caller.data().configuration.clone();
            return give(&mut caller, memory, &configuration, at(3), at(4));
        }
        "proxy_get_property" => {
            let name = read(&caller, memory, at(0), at(1)).replace('\0', ".");
            let value = caller.data().properties.get(&name).cloned();
            return value.map_or(NOT_FOUND, |value| give(&mut caller, memory, &value, at(2), at(3)));
        }
        "proxy_get_header_map_pairs" => {
            let headers = Headers::encode(&caller.data().headers);
            return give(&mut caller, memory, &headers, at(1), at(2));
        }
        "proxy_send_local_response" => caller.data_mut().status = Some(arguments[0].cast_signed()),
        "proxy_define_metric" => {
            caller.data_mut().metrics += 1;
            let number = caller.data().metrics;
            write(&mut caller, memory, at(3), &number.to_le_bytes());
        }
        _ => {}
    }
    OK
}

fn read(caller: &Caller<'_, Host>, memory: Memory, at: usize, length: usize) -> String {
    String::from_utf8_lossy(&memory.data(caller)[at..at + length]).into_owned()
}

fn write(caller: &mut Caller<'_, Host>, memory: Memory, at: usize, bytes: &[u8]) {
    memory.write(caller, at, bytes).unwrap();
}

/// Puts bytes into memory that the filter allocates, and their place and length where the filter wants them.
fn give(caller: &mut Caller<'_, Host>, memory: Memory, bytes: &[u8], place: usize, length: usize) -> i32 {
    let size = u32::try_from(bytes.len()).unwrap();
    let allocate: Func = caller.get_export("proxy_on_memory_allocate").and_then(Extern::into_func).unwrap();
    let mut result = [Val::I32(0)];
    allocate.call(&mut *caller, &[Val::I32(size.cast_signed())], &mut result).unwrap();
    let address = result[0].i32().unwrap().cast_unsigned();
    write(caller, memory, usize::try_from(address).unwrap(), bytes);
    write(caller, memory, place, &address.to_le_bytes());
    write(caller, memory, length, &size.to_le_bytes());
    OK
}
