// Asks Kubernetes' own reader what it makes of texts, and prints one line of JSON for each text. The lines are data for
// tests/files/kubectl.rs. CONTRIBUTING.md says when to run it.
//
//	go run ./texts COUNT FILE... > verdicts.jsonl
//
// The texts are documents written by hand, and COUNT changed parts of the files.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// A verdict is what the reader makes of a text.
type verdict struct {
	Text      string            `json:"text"`
	Documents []json.RawMessage `json:"documents"`
	Error     string            `json:"error,omitempty"`
}

// What people and programs write that readers of YAML disagree about.
var byHand = []string{
	"paths: [\n  \"/a\", # first\n  \"/b\"\n]\n", "paths: [\n\"/a\",\n\"/b\",\n]\n", "paths: [\n\t\"/a\"\n]\n",
	"paths: [\r\n  \"/a\"\r\n]\r\n", "paths: [\n  \"/a\" \n\n]\n", "spec: {a: b,\nc: d}\n", "spec: {\n# c\na: b\n}\n",
	"a: \"x\ny\"\n", "a:\tb\n", "- \ta\n", "a: [::1]\n", "a: [x:]\n", "a: [x:, 'y': z]\n", "a: {x:}\n", "a: [/a?b]\n", "a: [?x]\n",
	"a: [it's:]\n", "a: [b: c]\n", "---#x\na: b\n", "a: b\n---#x\nc: d\n", "--- a\n", "a: b\n--- c\n", "a: b\n...\nc: d\n",
	"%YAML 1.1\n---\na: b\n", "%YAML 1.2\n---\na: b\n", "\ufeffa: b\n", "a: b\n---\n\ufeffc: d\n", "a: # x\u2028b\n", "a: x\u0085b\n",
	"a: !!binary YWJj\n", "a: !!binary '*'\n", "a: !!null x\n", "a: !!null ''\n", "a: !!int x\n", "a: !!int '5'\n", "a: !!float 5\n",
	"a: !!str 5\n", "a: !!bool yes\n", "a: !own 5\n", "a: ! 5\n", "~: a\n", "null: a\n", ".nan: a\n", "1.5: a\n", "1e6: a\n",
	"1000000000000000000000: a\n", "yes: a\n", "0x10: a\n", "[a]: b\n", "? a\n: b\n", "a: .nan\n", "a: .inf\n", "a: 1e400\n", "a: 010\n",
	"a: 08\n", "a: 0o17\n", "a: 0b11\n", "a: -0b11\n", "a: +1\n", "a: 1_000\n", "a: 1__0\n", "a: _1\n", "a: .5\n", "a: 1.\n", "a: .\n",
	"a: 0x\n", "a: 0X1f\n", "a: 18446744073709551615\n", "a: 18446744073709551616\n", "a: 2024-01-01\n", "a: 10.0.0.1\n", "a: on\n", "a: Off\n",
	"x: &a {p: 1, q: 2}\ny: {<<: *a, p: 3}\n", "x: &a {p: 1}\ny: {p: 3, <<: *a}\n", "x: &a {p: 1}\nz: &b {p: 2}\ny: {<<: [*a, *b]}\n",
	"y: {<<: 1}\n", "y: {<<: [1]}\n", "y: {'<<': {a: b}}\n", "a: &a [*a]\n", "a: *a\n", "a: &a b\n---\nc: *a\n", "a: 1\na: 2\n",
	"{\"a\": 1}\n{\"b\": 2}\n", "{\"a\": 1}\n---\nb: 2\n", "{\"a\": 1} {\"b\": 2}\n---\nc: 3\n", "[{\"a\": 1}]\n", "{a: 1}\n", "{\"a\": \"\\/\"}\n",
	"a: \"\\/\"\n", "{\"a\": \"\\ud83d\\ude00\"}\n", "a: \"\\ud83d\\ude00\"\n", "{\"a\": 1\n", "a: |\n  x\n  y\n", "a: >-\n  x\n\n  y\n", "a: |+\n  x\n\n",
	"a: |\n\tx\n", "a: 'x''y'\n", "a: b: c\n", "a: b\n c: d\n", "  a: b\nc: d\n", "a\nb: c\n", "a: @b\n", "a: `b`\n", "a: %b\n", "a: b #c\n", "a: b#c\n",
	"a: \"\\x41\\u00e9\"\n", "a: \"\\q\"\n", "a: \x00\n", "a: \u007f\n", "a: [\n  b\n  c\n]\n", "a: [b,,c]\n", "a: [,]\n", "a: {b, c}\n", "",
	"# nothing\n", "---\n---\n", "null\n", "~\n", "- a\n- b\n", "text\n", "a:\n- b\n", "a:\n  - b\n - c\n",
	"a: [x:, 'p [q:] r', \"s [t:] u\", v w:] # [y:]\nb: |\n  [z:]\n", "a: [''b:]\n", "a: ['b'c:]\n", "a: {x:, b: c:, - d:}\n", "a: [x:, -\ty:]\n", "a: [x:, b\n  c:]\n",
	"a: !!binary YR==\n", "a: !!binary YWJ=\n", "a: !!binary YQ=\n", "a: !!binary YQ\n", "a: !!binary YQ==YQ==\n", "a: !!binary |\n  YQ=\n  =\n",
	"a: !!binary 'Y Q=='\n", "a: !!binary ''\n", "a: !!binary 'YWJj-_=='\n", "a: 'x\n", "a: [\"x]\nb: 1\n", "paths: [ # c\n  '/a'\n  , '/b' # d\n]\n",
	"paths: [\n  /a,\n\n  # c\n\n  /b,\n  ]\n", "paths:\n- [\n/a\n]\n", "m: {\n  a: b, # c\n  # d\n  c: [d,\n e]\n}\n", "a: [b, # c\nd]\n", "- {a: b,\n   c: d}\n- e\n", "a: {b: 'c\n  d', e: \"f\\\n  g\"}\n",
	"a: 'b\n\n\n  c'\n", "a: [\t'b',\t'c'\t]\n", "a:\t[b]\n", "a: b\t# c\n", "a: >\tb\n", "a: |\t\n  b\n",
	"a: [::]\n", "a: [fe80::1/64]\n", "a: ['::1', ::ffff:10.0.0.1]\n", "a:\n- ::1\n", "a: ::1\n", "a: {b: ::1}\n",
	"\t\na: b\n", "a: b\n\t\n", "a: b\n \t\nc: d\n", "a:\n\tb: c\n", "a:\n  b: c\n\td: e\n", "---\ttext\n",
	"--- # c\na: b\n", "--- {a: b}\n", "--- |\n  a\n", "---a: b\n", "%TAG ! tag:x,2000:\n---\na: !b c\n", "# c\n%YAML 1.1\n---\na: b\n",
	"{\"a\":1}{\"b\":2}\n", "{\"a\":1}\n\n\n{\"b\":2}\n", "{\"a\":1},\n{\"b\":2}\n", "[{\"a\":1},{\"b\":2}]\n",
	"{\"\\ud83d\\ude00\":1}\n", "{\"a\":\"x\\\\ud83d\"}\n", "---#\n---#x\na: b\n", "---#x\n---\na: b\n", "a: b\n---\n---\n\ufeffc: d\n",
	"\ufeff---\na: b\n", "a: !!null\n", "a: !!null ~\n", "a: !!null null\n", "a: !!null 'null'\n", "!!null a: b\n",
	"!!int 5: b\n", "!!str 5: b\n", "a: !!int '0x10'\n", "a: !!float '1e3'\n", "a: !!bool 'on'\n", "a: !!set {b}\n",
	"a: !!omap [b: c]\n", "a: !!seq [b]\n", "a: !!map {b: c}\n", "a: !!timestamp 2001-01-01\n", ".inf: a\n", "-.inf: a\n",
	"1e3: a\n", "0b11: a\n", "-0: a\n", "2001-01-01: a\n", "=: a\n", "<<: a\n",
	"a: b\u0085c: d\n", "a: 'b\u0085c'\n", "a: \"b\u2028  c\"\n", "a: b\u2029c\n", "a: |\n  b\u0085  c\n", "- a\u2028- b\n",
	"a: b #\u0085c: d\n",
}

// What is put into the files.
var fragments = []string{
	":", " ", "\n", "- ", "[", "]", "{", "}", ",", "\"", "'", "#", "&a ", "*a", "!!str ", "!!int ", "!x ", "|", ">", "?", "%", "@", "`", "---\n", "...\n",
	"\t", "\r", "\r\n", "<<: *a", "~", "null", "yes", "0x1F", "010", "1_000", "1e3", ".5", ".inf", "!!binary ", "YWJj", "\\/", "\\u00e9", "\u0085",
	"\u2028", "\ufeff", "a: b", "a:", "- a\n", "  ", "\n\n", "# c\n", "\\", "-", "a", "1", "\"a\": 1", "{a: b}", "[a, b]", "? a\n: b", "|-\n  x\n",
	">+\n  x\n\n", "x: &a {p: q}\n", "y: *a\n", "2001-01-01", "0b11", "-0b1", "+1", "0o17", "08", "1.5", "a?b", "::", "!!null ", "!!float ", "!!bool ",
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	var files []string
	for _, name := range os.Args[2:] {
		bytes, err := os.ReadFile(name)
		if err != nil {
			panic(err)
		}
		files = append(files, string(bytes))
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, text := range byHand {
		print(out, text)
	}
	random := rand.New(rand.NewSource(1))
	for range count {
		print(out, changed(random, files))
	}
}

// changed returns a few lines of a file, with one to four changes.
func changed(random *rand.Rand, files []string) string {
	lines := strings.SplitAfter(files[random.Intn(len(files))], "\n")
	start := random.Intn(len(lines))
	for start > 0 && strings.HasPrefix(lines[start], " ") {
		start--
	}
	text := strings.Join(lines[start:min(len(lines), start+1+random.Intn(9))], "")
	for range 1 + random.Intn(4) {
		at := random.Intn(len(text) + 1)
		switch random.Intn(5) {
		case 0:
			text = text[:at] + text[min(len(text), at+1+random.Intn(3)):]
		case 1:
			from := random.Intn(len(text) + 1)
			text = text[:at] + text[from:min(len(text), from+random.Intn(30))] + text[at:]
		default:
			text = text[:at] + fragments[random.Intn(len(fragments))] + text[at:]
		}
	}
	return strings.ToValidUTF8(text, "")
}

func print(out io.Writer, text string) {
	if !utf8.ValidString(text) {
		panic(text)
	}
	line, err := json.Marshal(read(text))
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(out, "%s\n", line)
}

// read reads a text as `kubectl apply -f` does.
func read(text string) verdict {
	found := verdict{Text: text, Documents: []json.RawMessage{}}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var object runtime.RawExtension
		if err := decoder.Decode(&object); err == io.EOF {
			return found
		} else if err != nil {
			found.Error = err.Error()
			return found
		}
		raw := bytes.TrimSpace(object.Raw)
		if len(raw) != 0 && !bytes.Equal(raw, []byte("null")) {
			found.Documents = append(found.Documents, raw)
		}
	}
}
