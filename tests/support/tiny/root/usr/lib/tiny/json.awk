# Writes a JSON document (comment lines before it allowed) as a tree of files: to/KEY/INDEX/KEY holds the
# value's text. Enough for a seed: keys are plain words, numbers and literals are copied as they stand.
function fail() { print "line " NR ": bad JSON near: " substr(text, at, 30) > "/dev/stderr"; exit 1 }
function blank() { while (substr(text, at, 1) ~ /[ \t\r\n]/) at++ }
function hex(digits,   i, n) {
    n = 0
    for (i = 1; i <= length(digits); i++) n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
    return n
}
function string(   out, c, n, rest, stop) {
    at++
    out = ""
    while (1) {
        rest = substr(text, at)
        stop = match(rest, /["\\]/)
        if (!stop) fail()
        out = out substr(rest, 1, stop - 1)
        at += stop - 1
        if (substr(text, at, 1) == "\"") { at++; return out }
        c = substr(text, at + 1, 1)
        at += 2
        if (c == "n") out = out "\n"
        else if (c == "t") out = out "\t"
        else if (c == "r") out = out "\r"
        else if (c == "b") out = out "\b"
        else if (c == "f") out = out "\f"
        else if (c == "u") { n = hex(substr(text, at, 4)); at += 4; out = out (n > 0 && n < 128 ? sprintf("%c", n) : "?") }
        else out = out c
    }
}
function write(path, value) { printf "%s", value > path; close(path) }
function value(path,   c, key, n, start) {
    blank()
    c = substr(text, at, 1)
    if (c == "{" || c == "[") {
        system("mkdir -p '" path "'")
        at++
        n = 0
        while (1) {
            blank()
            if (substr(text, at, 1) ~ /[]}]/) { at++; return }
            if (c == "{") {
                key = string()
                gsub(/[^A-Za-z0-9_-]/, "_", key)
                blank()
                if (substr(text, at, 1) != ":") fail()
                at++
            } else key = n++
            value(path "/" key)
            blank()
            if (substr(text, at, 1) == ",") at++
        }
    }
    if (c == "\"") { write(path, string()); return }
    start = at
    while (substr(text, at, 1) ~ /[-+.A-Za-z0-9]/) at++
    if (at == start) fail()
    write(path, substr(text, start, at - start))
}
/^#/ && !begun { next }
{ begun = 1; text = text $0 "\n" }
END { at = 1; value(to) }
