//! Envoy's callbacks in any order, also in those that Envoy never makes, with any answers to what the filter asks
//! meanwhile.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::{ptr, slice, thread};

use arbitrary::{Result, Unstructured};
use mesh_authz::request::Headers;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const INTERNAL_FAILURE: u32 = 10;

/// Configurations under which no request passes.
const CLOSED: [&str; 6] = [
    "",
    "{",
    r#"{"onInvalid":"deny","policies":5}"#,
    r#"{"onInvalid":"deny"}"#,
    r#"{"policies":[],"onInvalid":"fail","unknown":1}"#,
    r#"{"workload":{"namespace":"a"},"policies":[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"n","namespace":"a"},"spec":{}}]}"#,
];

/// Configurations under which some requests pass.
const OPEN: [&str; 4] = [
    r#"{"onInvalid":"deny","outgoing":"pass","workload":{"namespace":"a"},"policies":5}"#,
    r#"{"workload":{"namespace":"a"},"policies":[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"n","namespace":"a"},"spec":{"rules":[{"from":[{"source":{"principals":["td/ns/a/sa/b"]}}],"to":[{"operation":{"paths":["/a*"]}}]}]}}]}"#,
    r#"{"workload":{"namespace":"a"},"filterState":"all","decisionLog":"all","debugHeader":{"name":"x-why","principals":["*"]},"policies":[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"n","namespace":"a"},"spec":{"rules":[{"when":[{"key":"request.auth.claims[a]","values":["b"]},{"key":"request.headers[a]","values":["b"]},{"key":"remote.ip","values":["10.0.0.0/8"]}]}]}}]}"#,
    r#"{"paths":"strict","onInvalid":"deny","allowNoneApplies":true,"policies":[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"n","namespace":"a"},"spec":{"action":"DENY","selector":{"matchLabels":{"app":"a"}},"rules":[{"to":[{"operation":{"ports":["80"],"hosts":["h"]}}]}]}}]}"#,
];

const PROPERTIES: [&[u8]; 12] = [
    b"sidecar~a",
    b"\x02\0\0\0\0\0\0\0",
    b"spiffe://td/ns/a/sa/b",
    b"a",
    b"10.0.0.1:80",
    b"[::1]:80",
    b"80\0\0\0\0\0\0",
    b"",
    b"\x0a\x2d\x0a\x1cenvoy.filters.http.jwt_authn\x12\x0d\x0a\x0b\x0a\x07payload\x12\0",
    b"\x01\0\0\0\x03\0\0\0\x01\0\0\0app\0a\0",
    b"h:80",
    b"/a//b",
];

/// What the host answers. Each answer uses up bytes.
#[derive(Default)]
struct Script {
    bytes: Vec<u8>,
    configuration: Vec<u8>,
    plugin_name: Vec<u8>,
    responses: u32,
}

thread_local! {
    static HOST: RefCell<Script> = RefCell::default();
}

impl Script {
    /// The next of the bytes. Zero when they are used up.
    fn next(&mut self) -> u8 {
        self.bytes.pop().unwrap_or_default()
    }

    /// A status, which is seldom an error.
    fn status(&mut self) -> u32 {
        match self.next() {
            0xfd => BAD_ARGUMENT,
            0xfe => INTERNAL_FAILURE,
            0xff => 77,
            _ => OK,
        }
    }

    fn some(&mut self) -> Vec<u8> {
        let count = usize::from(self.next() % 24);
        (0..count).map(|_| self.next()).collect()
    }

    /// An answer of bytes.
    fn answer(&mut self) -> std::result::Result<Vec<u8>, u32> {
        match self.next() {
            0..=0x3f => Err(NOT_FOUND),
            0x40..=0x47 => Err(INTERNAL_FAILURE),
            0x48..=0x9f => Ok(self.some()),
            other => Ok(PROPERTIES[usize::from(other) % PROPERTIES.len()].to_vec()),
        }
    }

    fn headers(&mut self) -> Vec<u8> {
        const NAMES: [&[u8]; 6] = [b":method", b":path", b":authority", b"a", b"content-type", b"host"];
        const VALUES: [&[u8]; 7] = [b"GET", b"/a", b"h", b"b", b"/a/../b", b"application/grpc", b"\xff\n"];
        let mut pairs = vec![(b":method".to_vec(), b"GET".to_vec())];
        for _ in 0..self.next() % 8 {
            let name = NAMES[usize::from(self.next()) % NAMES.len()].to_vec();
            let value = match self.next() {
                0xf0.. => self.some(),
                other => VALUES[usize::from(other) % VALUES.len()].to_vec(),
            };
            pairs.push((name, value));
        }
        Headers::encode(&pairs)
    }
}

fn host<T>(answer: impl FnOnce(&mut Script) -> T) -> T {
    HOST.with_borrow_mut(answer)
}

/// Reads what the filter passes.
///
/// # Safety
/// `text` is valid for `size` bytes, or `size` is 0.
unsafe fn passed<'a>(text: *const u8, size: usize) -> &'a [u8] {
    // SAFETY: as above.
    if size == 0 { &[] } else { unsafe { slice::from_raw_parts(text, size) } }
}

/// Returns bytes to the filter, in memory that the filter allocates.
///
/// # Safety
/// `value` and `size` are valid for writes.
unsafe fn give(answer: std::result::Result<Vec<u8>, u32>, value: *mut *mut u8, size: *mut usize) -> u32 {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    // SAFETY: the filter allocates as many bytes as it is asked for.
    unsafe {
        if bytes.is_empty() {
            *value = ptr::null_mut();
        } else {
            *value = proxy_on_memory_allocate(bytes.len());
            ptr::copy_nonoverlapping(bytes.as_ptr(), *value, bytes.len());
        }
        *size = bytes.len();
    }
    OK
}

// What the filter exports.
unsafe extern "C" {
    safe fn _initialize();
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
    safe fn mesh_authz_on_context_create(context: u32, root: u32);
    safe fn mesh_authz_on_vm_start(root: u32, size: usize) -> u32;
    safe fn mesh_authz_on_configure(root: u32, size: usize) -> u32;
    safe fn mesh_authz_on_tick(root: u32);
    safe fn mesh_authz_on_request_headers(context: u32, count: usize, is_last: u32) -> u32;
    safe fn mesh_authz_on_new_connection(context: u32) -> u32;
    safe fn mesh_authz_on_downstream_data(context: u32, size: usize, is_last: u32) -> u32;
    safe fn mesh_authz_on_upstream_data(context: u32, size: usize, is_last: u32) -> u32;
    safe fn mesh_authz_on_downstream_connection_close(context: u32, by_whom: u32);
}

// What the filter imports. Pointers are valid, as `filter/host.rs` promises.

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, message: *const u8, size: usize) -> u32 {
    // SAFETY: as above.
    let line = unsafe { passed(message, size) };
    let Ok(line) = std::str::from_utf8(line) else { panic!("a line of the log is text") };
    // The filter writes why it panics.
    if level == 5 && line.contains("panicked") {
        eprintln!("{line}");
    }
    host(Script::status)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_log_level(level: *mut u32) -> u32 {
    host(|host| {
        // SAFETY: as above.
        unsafe { *level = u32::from(host.next() % 8) };
        host.status()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    host(|host| {
        let now = u64::from_le_bytes([0, 0, host.next(), host.next(), host.next(), 0, 0, host.next()]);
        // SAFETY: as above.
        unsafe { *time = now };
        host.status()
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(_period: u32) -> u32 {
    host(Script::status)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_close_stream(_kind: u32) -> u32 {
    host(Script::status)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    _buffer: u32,
    _start: usize,
    _most: usize,
    value: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let answer = host(|host| match host.status() {
        OK if host.configuration.is_empty() => Err(NOT_FOUND),
        OK => Ok(host.configuration.clone()),
        status => Err(status),
    });
    // SAFETY: as above.
    unsafe { give(answer, value, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    value: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: as above.
    let path = unsafe { passed(path, path_size) };
    let answer = host(|host| if path == b"plugin_name" { Ok(host.plugin_name.clone()) } else { host.answer() });
    // SAFETY: as above.
    unsafe { give(answer, value, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, size: usize) -> u32 {
    // SAFETY: as above.
    let (path, value) = unsafe { (passed(path, path_size), passed(value, size)) };
    assert!(!path.is_empty() && value.is_ascii());
    host(Script::status)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(_map: u32, value: *mut *mut u8, size: *mut usize) -> u32 {
    let answer = host(|host| match host.next() {
        0xf0.. => host.answer(),
        _ => Ok(host.headers()),
    });
    // SAFETY: as above.
    unsafe { give(answer, value, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_send_local_response(
    status: u32,
    details: *const u8,
    details_size: usize,
    body: *const u8,
    body_size: usize,
    headers: *const u8,
    headers_size: usize,
    _grpc_status: i32,
) -> u32 {
    // SAFETY: as above.
    let (details, body, headers) =
        unsafe { (passed(details, details_size), passed(body, body_size), passed(headers, headers_size)) };
    assert!((400..600).contains(&status) && !details.is_empty() && details.is_ascii());
    assert!(std::str::from_utf8(body).is_ok() && Headers::read(headers).known().is_some());
    host(|host| {
        host.responses += 1;
        host.status()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(_kind: u32, _name: *const u8, _size: usize, metric: *mut u32) -> u32 {
    host(|host| {
        // SAFETY: as above.
        unsafe { *metric = u32::from(host.next()) };
        host.status()
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(_metric: u32, _by: i64) -> u32 {
    host(Script::status)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_record_metric(_metric: u32, _value: u64) -> u32 {
    host(Script::status)
}

/// Whether a context exists, which the filter asks about its roots.
#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(_number: u32) -> u32 {
    host(Script::status)
}

/// The calls that the SDK could make, but the filter does not.
macro_rules! never_called {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            panic!("{} is called", stringify!($name))
        }
    )* };
}

never_called! {
    proxy_add_header_map_value
    proxy_call_foreign_function
    proxy_continue_stream
    proxy_dequeue_shared_queue
    proxy_done
    proxy_enqueue_shared_queue
    proxy_get_header_map_value
    proxy_get_metric
    proxy_get_shared_data
    proxy_get_status
    proxy_grpc_call
    proxy_grpc_cancel
    proxy_grpc_close
    proxy_grpc_send
    proxy_grpc_stream
    proxy_http_call
    proxy_register_shared_queue
    proxy_remove_header_map_value
    proxy_replace_header_map_value
    proxy_resolve_shared_queue
    proxy_set_buffer_bytes
    proxy_set_header_map_pairs
    proxy_set_shared_data
}

/// Calls the filter as the bytes say, in a thread of its own: a virtual machine is a thread's own variables.
pub fn run(input: &[u8]) {
    let input = input.to_vec();
    let done = thread::spawn(move || {
        let mut bytes = Unstructured::new(&input);
        let half = bytes.len() / 2;
        let Ok(answers) = bytes.bytes(half) else { return };
        host(|host| *host = Script { bytes: answers.to_vec(), ..Script::default() });
        _initialize();
        let _end = calls(&mut bytes);
    });
    assert!(done.join().is_ok());
}

/// Makes calls until the bytes are used up.
fn calls(bytes: &mut Unstructured<'_>) -> Result<()> {
    /// Numbers of contexts, few enough that calls often meet one that exists.
    const NUMBERS: u32 = 9;
    let mut may_pass = false;
    // The filters, and whether each has had a configuration.
    let mut roots = BTreeMap::<u32, bool>::new();
    // The last request or connection, and its filter.
    let mut last = (0, 0);
    // The connections that were not closed.
    let mut connections = BTreeSet::<u32>::new();
    while !bytes.is_empty() {
        let context = bytes.int_in_range(1..=NUMBERS)?;
        match bytes.int_in_range(0..=12)? {
            0..=1 => {
                mesh_authz_on_context_create(context, 0);
                roots.insert(context, false);
            }
            2..=3 => {
                let root = bytes.int_in_range(1..=NUMBERS)?;
                mesh_authz_on_context_create(context, root);
                last = (context, root);
            }
            4..=5 => {
                let configuration = match bytes.int_in_range(0..=7)? {
                    0..=3 => (*bytes.choose(&CLOSED)?).as_bytes().to_vec(),
                    other => {
                        may_pass = true;
                        let mut configuration = (*bytes.choose(&OPEN)?).as_bytes().to_vec();
                        if other == 7 {
                            let position = bytes.choose_index(configuration.len())?;
                            configuration[position] = bytes.arbitrary()?;
                        }
                        configuration
                    }
                };
                let name = *bytes.choose(&["", "a", "b"])?;
                let size = configuration.len();
                host(|host| {
                    host.configuration = configuration;
                    host.plugin_name = name.into();
                });
                let _is_accepted = mesh_authz_on_configure(context, size);
                roots.entry(context).and_modify(|is_configured| *is_configured = true);
            }
            6 => assert_eq!(mesh_authz_on_vm_start(context, 0), 1),
            7 => mesh_authz_on_tick(context),
            8..=9 => {
                host(|host| host.responses = 0);
                let passes = mesh_authz_on_request_headers(context, 0, bytes.int_in_range(0..=1)?) == 0;
                assert!(may_pass || !passes, "nothing was configured that lets a request pass");
                let is_known = last.0 == context && roots.get(&last.1) == Some(&true);
                assert!(!passes || is_known, "it is the last request, of a known filter");
                assert_eq!(host(|host| host.responses), u32::from(!passes), "a request is answered, or passes");
            }
            10 => {
                let goes_on = mesh_authz_on_new_connection(context) == 0;
                assert!(may_pass || !goes_on, "nothing was configured that lets a connection pass");
                let is_known = last.0 == context && roots.get(&last.1) == Some(&true);
                assert!(!goes_on || is_known, "it is the last connection, of a known filter");
                if goes_on {
                    connections.insert(context);
                }
            }
            11 => {
                let speaks = *bytes.choose(&[
                    mesh_authz_on_downstream_data as extern "C" fn(u32, usize, u32) -> u32,
                    mesh_authz_on_upstream_data,
                ])?;
                let passes = speaks(context, 1, bytes.int_in_range(0..=1)?) == 0;
                assert!(!passes || connections.contains(&context), "a connection that is not open");
                if !passes {
                    connections.remove(&context);
                }
            }
            _ => {
                mesh_authz_on_downstream_connection_close(context, 1);
                connections.remove(&context);
            }
        }
    }
    Ok(())
}
