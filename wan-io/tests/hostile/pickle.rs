//! Checkpoints whose pickle does what none needs.

use crate::table::{Row, fails, loads};
use crate::write::{Entry, call, checkpoint, dict, global, int, pair, sparse, text, tuple, value};

pub(crate) fn rows() -> Vec<Row> {
    [calls(), opcodes(), stack(), limits(), honest(), names()].into_iter().flatten().collect()
}

/// A call of something that is not on the list.
fn forbidden(name: &'static str, body: &[u8], shown: &str) -> Row {
    let reason = "which is not on the list of what a checkpoint may contain; nothing of it was run";
    fails(name, value(body), &format!("calls `{shown}`, "), reason)
}

fn calls() -> Vec<Row> {
    let command = text("touch /tmp/pwned");
    let of = |module: &str, name: &str| call(module, name, std::slice::from_ref(&command));
    let by_stack = [text("subprocess"), text("Popen"), b"\x93".to_vec(), command.clone()].concat();
    vec![
        forbidden("a command", &of("os", "system"), "os.system"),
        forbidden("a command on Unix", &of("posix", "system"), "posix.system"),
        forbidden("a command on Windows", &of("nt", "system"), "nt.system"),
        forbidden("Python", &of("builtins", "eval"), "builtins.eval"),
        forbidden("Python 2", &of("__builtin__", "exec"), "__builtin__.exec"),
        forbidden("a harmless call", &of("builtins", "print"), "builtins.print"),
        forbidden("attributes", &of("builtins", "getattr"), "builtins.getattr"),
        forbidden("a name from the stack", &by_stack, "subprocess.Popen"),
        forbidden("another pickle", &of("torch", "load"), "torch.load"),
        forbidden("a file of code", &of("torch.hub", "load"), "torch.hub.load"),
        forbidden("a native library", &of("torch.ops", "load_library"), "torch.ops.load_library"),
        forbidden("another class", &of("collections", "Counter"), "collections.Counter"),
        forbidden("a storage elsewhere", &of("os", "FloatStorage"), "os.FloatStorage"),
        forbidden("a path to a name", &of("torch", "_utils.os.system"), "torch._utils.os.system"),
        forbidden("an escape sequence", &global("\x1b[2J", "x"), r"\u{1b}[2J.x"),
        forbidden("a call by INST", b"(ios\nsystem\n", "os.system"),
        forbidden("a call by OBJ", b"(cos\nsystem\no", "os.system"),
        forbidden("a call by NEWOBJ", b"cos\nsystem\n)\x81", "os.system"),
        forbidden(
            "deep in a dict",
            &dict(&[("a", dict(&[("b", of("os", "system"))]))]),
            "os.system",
        ),
    ]
}

fn opcode(name: &'static str, body: &[u8], opcode: u8, at: usize) -> Row {
    let reason = "which is not on the list of what a checkpoint may contain; nothing of it was run";
    let what = format!("byte {at} of its pickle is opcode {opcode:#04x}, ");
    fails(name, value(body), &what, reason)
}

fn opcodes() -> Vec<Row> {
    let class = global("collections", "OrderedDict");
    let after = |more: &[u8]| [&class[..], more].concat();
    vec![
        opcode("INST of a listed class", b"(icollections\nOrderedDict\n", b'i', 3),
        opcode("OBJ of a listed class", &[b"(", &after(b"o")[..]].concat(), b'o', 28),
        opcode("NEWOBJ of a listed class", &after(b")\x81"), 0x81, 28),
        opcode("NEWOBJ_EX", &after(b")}\x92"), 0x92, 29),
        opcode("EXT1", b"\x82\x01", 0x82, 2),
        opcode("EXT2", b"\x83\x01\x00", 0x83, 2),
        opcode("EXT4", b"\x84\x01\x00\x00\x00", 0x84, 2),
        opcode("PERSID", b"P0\n", b'P', 2),
        opcode("a buffer from outside", b"\x97", 0x97, 2),
        opcode("an opcode of the oldest protocol", b"I1\n", b'I', 2),
        opcode("an opcode that Python has not", b"\xff", 0xff, 2),
    ]
}

fn wrong(name: &'static str, body: &[u8], at: usize, reason: &str) -> Row {
    fails(name, value(body), &format!("byte {at} of its pickle: "), reason)
}

fn stack() -> Vec<Row> {
    let too_few = "takes more values than there are";
    let tensor = pair("0");
    let build = [&tensor[..], b"}b"].concat();
    let end = 2 + tensor.len();
    let parameter = call("torch._utils", "_rebuild_parameter", &[b"N".to_vec(), b"\x88".to_vec()]);
    let argument = [global("torch", "Size"), int(3), b"R".to_vec()].concat();
    vec![
        wrong("BUILD on a tensor", &build, end + 1, "gives attributes to what is not a dict"),
        wrong(
            "a call of a tensor",
            &[&tensor[..], b")R"].concat(),
            end + 1,
            "calls what is not a function",
        ),
        wrong("a call of text", b"U\x09os.system)R", 14, "calls what is not a function"),
        wrong(
            "a call with wrong arguments",
            &parameter,
            39,
            "calls RebuildParameter with 2 arguments that do not fit",
        ),
        wrong(
            "a call without a tuple",
            &argument,
            24,
            "the arguments of a call are not a short tuple",
        ),
        wrong(
            "a call with 1,000 arguments",
            &call("torch", "Size", &vec![b"N".to_vec(); 1000]),
            1016,
            "the arguments of a call are not a short tuple",
        ),
        wrong("an empty stack", b"0", 2, too_few),
        wrong("values below a mark", b"N(0", 4, too_few),
        wrong("no mark", b"t", 2, "takes values up to a mark, but there is none"),
        wrong("a key without a value", b"}(Nu", 5, "a key has no value"),
        wrong("a key of a list", b"]NNs", 5, "sets a key of what is not a dict"),
        wrong("an item of a dict", b"}Na", 4, "appends to what is not a list"),
        wrong("two results", b"NN", 4, "values are left when it stops"),
        wrong("nothing kept", b"h\x07", 2, "nothing was kept as 7"),
        wrong("a protocol of the future", b"\x80\x09N", 2, "its protocol is 9, but must be 2 to 5"),
        wrong("text that is not UTF-8", b"X\x01\0\0\0\xff", 2, "a text is not UTF-8"),
        wrong("a name that is a number", b"NN\x93", 4, "a name is not text"),
        wrong("a name without an end", &[b'c'; 600], 2, "a name is too long"),
        fails("an empty pickle", checkpoint(b""), "its pickle is cut off at byte 0", ""),
        fails("no end", checkpoint(b"\x80\x02}"), "its pickle is cut off at byte 3", ""),
        fails(
            "text beyond the end",
            checkpoint(b"\x80\x02X\xff\xff\xff\xff"),
            "its pickle is cut off at byte 7",
            "",
        ),
        fails(
            "text of 16 EiB",
            checkpoint(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
            "its pickle is cut off at byte 11",
            "",
        ),
        fails(
            "more behind the end",
            checkpoint(b"\x80\x02}.cos\nsystem\n)R."),
            "byte 4 of its pickle: ",
            "its pickle stops here, but goes on",
        ),
    ]
}

fn limit(name: &'static str, body: &[u8], what: &str) -> Row {
    fails(name, value(body), &format!("has more than {what}"), "")
}

fn limits() -> Vec<Row> {
    // Each level holds the one before ten times.
    let level = [&b"0]("[..], &b"h\0".repeat(10), b"eq\0"].concat();
    let laughs = [&b"]q\0"[..], &level.repeat(20)].concat();
    let steps = b"N0".repeat(1_000_001);
    let mut huge = Entry::new("x/data.pkl", b"\x80\x02X\0\0\x10\x04");
    huge.hole = 65 << 20;
    vec![
        limit("a list in itself", b"]q\0h\0a", "32 levels of nesting"),
        limit(
            "a dict in itself",
            &[b"}q\0", &text("a")[..], b"h\0s"].concat(),
            "32 levels of nesting",
        ),
        limit("a list in its dict in it", b"]q\0}q\x01K\x01h\0sa", "32 levels of nesting"),
        limit(
            "a million levels",
            &[&b"N"[..], &[0x85; 1_000_000]].concat(),
            "32 levels of nesting",
        ),
        limit("a billion laughs", &laughs, "2000000 values, counting shared ones"),
        limit("a high stack", &[b']'; 1_000_000], "100000 values on its stack"),
        limit("many marks", &[b'('; 1_000_000], "100000 values on its stack"),
        limit(
            "many memos",
            &[&b"]"[..], &[0x94; 600_000]].concat(),
            "500000 values kept by its pickle",
        ),
        limit("many steps", &steps, "2000000 instructions in its pickle"),
        fails("a pickle of 65 MiB", sparse(&[huge]), "has more than 67108864 bytes of pickle", ""),
    ]
}

fn honest() -> Vec<Row> {
    let class = global("torch", "Tensor");
    let rebuild = global("torch._utils", "_rebuild_tensor_v2");
    let mut arguments = pair("0");
    arguments.drain(..rebuild.len());
    arguments.pop(); // the call itself
    let subclass = [rebuild, class, arguments, b"}".to_vec()];
    let subclass = call("torch._tensor", "_rebuild_from_type_v2", &subclass);
    let list = [b"](", &pair("0")[..], &pair("0"), b"e"].concat();
    let numbers = [b"}", &int(7)[..], &pair("0"), b"s"].concat();
    let newest = [b"\x80\x05\x95\0\0\0\0\0\0\0\0", &dict(&[("a", pair("0"))])[..]].concat();
    vec![
        loads("a tensor with attributes", value(&dict(&[("a", subclass)])), &["a"]),
        loads(
            "lists",
            value(&dict(&[("a", list.clone()), ("b", tuple(&[list]))])),
            &["a.0", "a.1", "b.0.0", "b.0.1"],
        ),
        loads("a number as a name", value(&numbers), &["7"]),
        loads("the newest protocol", value(&newest), &["a"]),
        loads("no tensors", value(b"}"), &[]),
    ]
}

fn names() -> Vec<Row> {
    let tensor = |name: &str| value(&dict(&[(name, pair("0"))]));
    let long = "n".repeat(700);
    let nested = dict(&[(&long, dict(&[(&long, pair("0"))]))]);
    let twice = dict(&[("a.b", pair("0")), ("a", dict(&[("b", pair("0"))]))]);
    let key = [b"}N", &pair("0")[..], b"s"].concat();
    let no_dict = ", but must hold a dict of tensors";
    vec![
        fails("two tensors of one name", value(&twice), r#"tensor "a.b" is there twice"#, ""),
        fails(
            "a name of 1,401 bytes",
            value(&nested),
            "has more than 1024 bytes in a tensor's name",
            "",
        ),
        fails(
            "a name with a line feed",
            tensor("a\nb"),
            r#"the name of tensor "a\nb" "#,
            "has control characters",
        ),
        fails(
            "a name that is None",
            value(&key),
            r#"tensor "" has a key that is neither text nor a whole number"#,
            "",
        ),
        fails(
            "a tensor without a name",
            value(&pair("0")),
            "holds one tensor without a name",
            no_dict,
        ),
        fails("no dict", value(b"K\x01"), "holds a single value", no_dict),
    ]
}
