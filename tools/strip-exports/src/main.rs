//! `strip-exports IN OUT`: removes the callbacks that do nothing from a Proxy-Wasm module.
//!
//! Envoy calls every callback that it finds, for each request. The filter is built on the SDK, which exports the whole
//! ABI. A callback that the filter does not implement is exported with an empty body. No argument of the linker removes
//! an export of a dependency.
//!
//! This step keeps the exports that the filter needs, and makes sure that none of them is missing. It also removes the
//! code that only the SDK's own callbacks reach. Some of that code is in tables, where a linker and a garbage collector
//! leave it: the methods of the SDK's contexts. Of functions with the same code, it leaves one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use walrus::ir::{Call, Visitor, VisitorMut, dfs_in_order, dfs_pre_order_mut};
use walrus::{ElementItems, ExportItem, FunctionBuilder, FunctionId, Module, ModuleConfig, passes};
use wasmparser::{Parser, Payload, TypeRef};

/// The exports that every filter needs.
const KEPT: [&str; 4] = ["_initialize", "memory", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate"];

/// The callbacks that Envoy makes to a filter that looks at request headers and at nothing else, without the prefix
/// `proxy_on_`.
///
/// Three callbacks are left out, because each would be a call for every request:
/// - Without `proxy_on_done`, a context may go at once, as with the SDK's own callback.
/// - Without `proxy_on_log`, a context is told nothing when a request ends, as with the SDK's own one.
/// - Without `proxy_on_delete`, nobody says that a context goes. The filter keeps nothing of a request, and finds out by
///   itself which filters have gone. A filter with the SDK's callbacks keeps its contexts, so it has this one.
///
/// In `proxy_on_tick`, counters are reported.
const CALLBACKS: [&str; 5] = ["configure", "context_create", "request_headers", "tick", "vm_start"];

/// What a filter of the SDK needs as well.
const CALLBACK_OF_THE_SDK: &str = "proxy_on_delete";

/// The callbacks in a network filter chain.
const CALLBACKS_OF_CONNECTIONS: [&str; 4] =
    ["new_connection", "downstream_data", "upstream_data", "downstream_connection_close"];

/// The prefix of the callbacks that a filter exports itself. Without this, they are those of the SDK.
const OWN: &str = "mesh_authz_on_";

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("usage: strip-exports IN OUT") };
    let module = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    let stripped = strip(&module).with_context(|| format!("stripping {}", from.display()))?;
    // An unchanged file is not written again, so that steps that depend on it need not run again.
    if fs::read(to).is_ok_and(|before| before == stripped) {
        return Ok(());
    }
    fs::write(to, stripped).with_context(|| format!("writing {}", to.display()))
}

fn strip(wasm: &[u8]) -> Result<Vec<u8>> {
    merge_equal_functions(with_wanted_exports(wasm)?)
}

fn with_wanted_exports(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = ModuleConfig::new().generate_name_section(false).generate_producers_section(false).parse(wasm)?;
    let exported: HashMap<_, _> = module.exports.iter().map(|export| (export.name.clone(), export.item)).collect();
    let has_own = exported.keys().any(|name| name.starts_with(OWN));
    let mut wanted: Vec<_> = KEPT.into_iter().map(|name| (name.to_owned(), name.to_owned())).collect();
    let own = if has_own { OWN } else { "proxy_on_" };
    wanted.extend(CALLBACKS.map(|name| (format!("{own}{name}"), format!("proxy_on_{name}"))));
    if !has_own {
        wanted.push((CALLBACK_OF_THE_SDK.to_owned(), CALLBACK_OF_THE_SDK.to_owned()));
    }
    if has_own {
        wanted.extend(CALLBACKS_OF_CONNECTIONS.map(|name| (format!("{own}{name}"), format!("proxy_on_{name}"))));
    }
    let missing: Vec<_> =
        wanted.iter().map(|(from, _)| from.as_str()).filter(|from| !exported.contains_key(*from)).collect();
    ensure!(missing.is_empty(), "the module does not export {}", missing.join(", "));
    for name in exported.keys() {
        module.exports.remove(name)?;
    }
    for (from, to) in wanted {
        if let Some(item) = exported.get(&from) {
            module.exports.add(&to, *item);
        }
    }
    if has_own {
        remove_contexts_of_the_sdk(&mut module);
    }
    passes::gc::run(&mut module);
    // They say which compiler and which instructions made the module, and nobody reads them.
    let described: Vec<_> = module.customs.iter().map(|(id, _)| id).collect();
    for id in described {
        module.customs.delete(id);
    }
    Ok(module.emit_wasm())
}

/// Leaves one of several functions with the same code. The compiler merges most of them, but some become equal only when
/// it has merged others, or are compiled for speed in one crate and for size in another. No function compares pointers
/// to functions.
fn merge_equal_functions(mut wasm: Vec<u8>) -> Result<Vec<u8>> {
    loop {
        let equal = equal_functions(&wasm)?;
        if equal.is_empty() {
            return Ok(wasm);
        }
        let mut config = ModuleConfig::new();
        config.generate_name_section(false).generate_producers_section(false).on_parse(move |module, ids| {
            let replaced: HashMap<_, _> = equal
                .iter()
                .map(|(from, to)| Ok((ids.get_func(*from)?, ids.get_func(*to)?)))
                .collect::<walrus::Result<_>>()?;
            replace(module, &replaced);
            passes::gc::run(module);
            Ok(())
        });
        wasm = config.parse(&wasm)?.emit_wasm();
    }
}

/// The functions that have the type and the code of an earlier one, by their indices, each with the index of the earlier
/// one.
fn equal_functions(wasm: &[u8]) -> Result<Vec<(u32, u32)>> {
    let (mut imports, mut types, mut codes) = (0, Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imports += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(section) => types = section.into_iter().collect::<Result<_, _>>()?,
            Payload::CodeSectionEntry(body) => codes.push(body.as_bytes()),
            _ => {}
        }
    }
    let mut first = HashMap::new();
    let mut equal = Vec::new();
    for (index, function) in (imports..).zip(types.into_iter().zip(codes)) {
        match first.entry(function) {
            Entry::Vacant(entry) => {
                entry.insert(index);
            }
            Entry::Occupied(earlier) => equal.push((index, *earlier.get())),
        }
    }
    Ok(equal)
}

/// Puts other functions in the place of these, wherever they are called or named.
fn replace(module: &mut Module, replaced: &HashMap<FunctionId, FunctionId>) {
    let replace = |id: &mut FunctionId| *id = *replaced.get(id).unwrap_or(id);
    for (_, function) in module.funcs.iter_local_mut() {
        let entry = function.entry_block();
        dfs_pre_order_mut(&mut Replace(replaced), function, entry);
    }
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            functions.iter_mut().for_each(replace);
        }
    }
    for export in module.exports.iter_mut() {
        if let ExportItem::Function(id) = &mut export.item {
            replace(id);
        }
    }
}

/// Replaces functions in the code of another one.
struct Replace<'r>(&'r HashMap<FunctionId, FunctionId>);

impl VisitorMut for Replace<'_> {
    fn visit_function_id_mut(&mut self, id: &mut FunctionId) {
        *id = *self.0.get(id).unwrap_or(id);
    }
}

/// Removes the functions that call the host through the SDK from the tables, so that nothing reaches them. A filter
/// with callbacks of its own never does that. Where such a function was, there is one that traps.
///
/// The name of the function itself does not count: the compiler merges equal functions, and one of the filter's may
/// have a name of the SDK. A module without names stays as it is.
fn remove_contexts_of_the_sdk(module: &mut Module) {
    let is_sdk = |name: &str| name.contains("proxy_wasm") && name.contains("hostcalls");
    let named = module.funcs.iter().filter(|function| function.name.as_deref().is_some_and(is_sdk));
    let calls_to_the_host: HashSet<_> = named.map(walrus::Function::id).collect();
    let mut in_tables = HashSet::new();
    for (id, function) in module.funcs.iter_local() {
        let mut search = CallSearch { wanted: &calls_to_the_host, found: false };
        dfs_in_order(&mut search, function, function.entry_block());
        if search.found {
            in_tables.insert(id);
        }
    }
    let mut trap = FunctionBuilder::new(&mut module.types, &[], &[]);
    trap.func_body().unreachable();
    let trap = trap.finish(Vec::new(), &mut module.funcs);
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            functions.iter_mut().filter(|id| in_tables.contains(*id)).for_each(|id| *id = trap);
        }
    }
}

/// Looks for a call to one of the wanted functions.
struct CallSearch<'w> {
    wanted: &'w HashSet<FunctionId>,
    found: bool,
}

impl Visitor<'_> for CallSearch<'_> {
    fn visit_call(&mut self, call: &Call) {
        self.found |= self.wanted.contains(&call.func);
    }
}

#[cfg(test)]
mod tests {
    use walrus::ir::Value;
    use walrus::{ConstExpr, ElementKind, RefType, ValType};

    use super::*;

    #[test]
    fn a_module_that_lacks_an_export_is_refused() {
        let error = strip(b"\0asm\x01\0\0\0").unwrap_err().to_string();
        assert!(error.contains("proxy_on_request_headers"), "{error}");
    }

    /// A module with the callbacks of a filter, and a table of two functions. The first one calls the host, through a
    /// function with this name.
    fn with_table(hostcall: &str) -> Vec<u8> {
        let mut module = Module::default();
        let function = |module: &mut Module, callee: Option<FunctionId>| {
            let mut builder = FunctionBuilder::new(&mut module.types, &[], &[]);
            if let Some(callee) = callee {
                builder.func_body().call(callee);
            }
            builder.finish(Vec::new(), &mut module.funcs)
        };
        let hostcall_id = function(&mut module, None);
        module.funcs.get_mut(hostcall_id).name = Some(hostcall.to_owned());
        let in_table = [function(&mut module, Some(hostcall_id)), function(&mut module, None)];
        let table = module.tables.add_local(false, 2, Some(2), RefType::FUNCREF);
        let kind = ElementKind::Active { table, offset: ConstExpr::Value(Value::I32(0)) };
        let element = module.elements.add(kind, ElementItems::Functions(in_table.to_vec()));
        module.tables.get_mut(table).elem_segments.insert(element);
        let callback = function(&mut module, None);
        let mut caller = FunctionBuilder::new(&mut module.types, &[], &[]);
        let ty = module.types.add(&[], &[]);
        caller.func_body().i32_const(1).call_indirect(ty, table);
        let caller = caller.finish(Vec::new(), &mut module.funcs);
        for name in CALLBACKS.iter().chain(&CALLBACKS_OF_CONNECTIONS) {
            module.exports.add(&format!("{OWN}{name}"), callback);
        }
        for name in KEPT {
            module.exports.add(name, caller);
        }
        module.emit_wasm()
    }

    /// A chain of calls that ends in two functions with the same code: each merge makes the callers equal.
    #[test]
    fn functions_with_the_same_code_are_merged_until_none_is_left() {
        let mut module = Module::default();
        let number = |module: &mut Module, number: i32| {
            let mut builder = FunctionBuilder::new(&mut module.types, &[], &[ValType::I32]);
            builder.func_body().i32_const(number);
            builder.finish(Vec::new(), &mut module.funcs)
        };
        let caller = |module: &mut Module, callee: FunctionId| {
            let mut builder = FunctionBuilder::new(&mut module.types, &[], &[ValType::I32]);
            builder.func_body().call(callee);
            builder.finish(Vec::new(), &mut module.funcs)
        };
        let ends = [number(&mut module, 1), number(&mut module, 1), number(&mut module, 2)];
        let callers = ends.map(|end| caller(&mut module, end));
        let table = module.tables.add_local(false, 3, Some(3), RefType::FUNCREF);
        let kind = ElementKind::Active { table, offset: ConstExpr::Value(Value::I32(0)) };
        let element = module.elements.add(kind, ElementItems::Functions(callers.to_vec()));
        module.tables.get_mut(table).elem_segments.insert(element);
        for (name, caller) in ["a", "b", "c"].into_iter().zip(callers) {
            module.exports.add(name, caller);
        }
        module.exports.add("table", table);
        let merged = merge_equal_functions(module.emit_wasm()).unwrap();
        assert!(equal_functions(&merged).unwrap().is_empty());
        let merged = Module::from_buffer(&merged).unwrap();
        assert_eq!(merged.funcs.iter().count(), 4);
        let function = |name: &str| merged.exports.get_func(name).unwrap();
        assert!(function("a") == function("b") && function("a") != function("c"));
        let in_table: Vec<_> = merged
            .elements
            .iter()
            .flat_map(|element| match &element.items {
                ElementItems::Functions(functions) => functions.clone(),
                ElementItems::Expressions(..) => Vec::new(),
            })
            .collect();
        assert_eq!(in_table, ["a", "b", "c"].map(function));
    }

    #[test]
    fn only_what_calls_the_host_through_the_sdk_leaves_the_tables() {
        let functions = |name| {
            let stripped = with_wanted_exports(&with_table(name)).unwrap();
            Module::from_buffer(&stripped).unwrap().funcs.iter().count()
        };
        let all = functions("_ZN10mesh_authz6filter4host17h0E");
        // The method and the function that it calls go, and a trap comes.
        assert_eq!(functions("_ZN10proxy_wasm9hostcalls12get_property17h0E"), all - 1);
    }
}
