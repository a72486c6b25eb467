/**
 * Where each key of a TOML document stands, so that an error can name the line: smol-toml gives positions for syntax
 * errors only. The text must have been parsed before: this scanner does not judge it.
 */
/** The 1-based line of each key and each table header of a well-formed TOML document. */
export class TomlLines {
    text;
    lines = new Map();
    /** Tables seen so far in each array of tables. */
    tableCounts = new Map();
    at = 0;
    line = 1;
    constructor(text) {
        this.text = text;
        this.scan();
    }
    /** The line of the key at `path` or, where it is missing, of the nearest table around it; 1 for the document. */
    lineOf(path) {
        for (let length = path.length; length > 0; length -= 1) {
            const line = this.lines.get(key(path.slice(0, length)));
            if (line !== undefined)
                return line;
        }
        return 1;
    }
    scan() {
        let table = [];
        for (this.skipBlank(true); this.at < this.text.length; this.skipBlank(true)) {
            if (this.text[this.at] === '[')
                table = this.header();
            else
                this.pair(table);
        }
    }
    header() {
        const line = this.line;
        const isArray = this.text.startsWith('[[', this.at);
        this.at += isArray ? 2 : 1;
        const written = this.dottedKey();
        this.at += isArray ? 2 : 1;
        const path = [];
        written.forEach((part, index) => {
            path.push(part);
            const count = this.tableCounts.get(key(path));
            if (isArray && index === written.length - 1) {
                this.note(path, line);
                this.tableCounts.set(key(path), (count ?? 0) + 1);
                path.push(count ?? 0);
            }
            else if (count !== undefined) {
                path.push(count - 1);
            }
        });
        this.note(path, line);
        return path;
    }
    /** key = value, with the lines of what an inline table or an array holds. */
    pair(table) {
        const line = this.line;
        const path = [...table, ...this.dottedKey()];
        this.note(path, line);
        this.at += 1; // '='
        this.skipBlank(false);
        this.value(path);
    }
    value(path) {
        const first = this.text[this.at];
        if (first === '"' || first === "'")
            this.string();
        else if (first === '[')
            this.list(']', (index) => this.value(this.noted([...path, index])));
        else if (first === '{')
            this.list('}', () => this.pair(path));
        else
            this.at += /^[^,\]}#\n\r]*/.exec(this.text.slice(this.at))?.[0].length ?? 0;
    }
    list(close, item) {
        this.at += 1;
        this.skipBlank(true);
        for (let index = 0; this.at < this.text.length && this.text[this.at] !== close; index += 1) {
            item(index);
            this.skipBlank(true);
            if (this.text[this.at] === ',')
                this.at += 1;
            this.skipBlank(true);
        }
        this.at += 1;
    }
    /** Leaves `at` behind the key, on '=' or ']'. */
    dottedKey() {
        const parts = [];
        while (this.at < this.text.length) {
            this.skipBlank(false);
            const start = this.at;
            const first = this.text[this.at];
            if (first === '"' || first === "'") {
                this.string();
                const quoted = this.text.slice(start, this.at);
                parts.push(first === '"' ? unescaped(quoted) : quoted.slice(1, -1));
            }
            else {
                this.at += /^[A-Za-z0-9_-]*/.exec(this.text.slice(this.at))?.[0].length ?? 0;
                parts.push(this.text.slice(start, this.at));
            }
            this.skipBlank(false);
            if (this.text[this.at] !== '.')
                break;
            this.at += 1;
        }
        return parts;
    }
    string() {
        const quote = this.text[this.at] ?? '"';
        const isLong = this.text.startsWith(quote.repeat(3), this.at);
        const close = isLong ? quote.repeat(3) : quote;
        this.at += close.length;
        while (this.at < this.text.length && !this.text.startsWith(close, this.at)) {
            if (this.text[this.at] === '\\' && quote === '"')
                this.step();
            this.step();
        }
        this.at += close.length;
        // """text""""" ends with two quotes of its own.
        while (isLong && this.text[this.at] === quote)
            this.at += 1;
    }
    skipBlank(acrossLines) {
        for (;;) {
            const next = this.text[this.at];
            if (next === ' ' || next === '\t' || (acrossLines && (next === '\n' || next === '\r')))
                this.step();
            else if (next === '#' && acrossLines)
                while (this.at < this.text.length && this.text[this.at] !== '\n')
                    this.at += 1;
            else
                return;
        }
    }
    step() {
        if (this.text[this.at] === '\n')
            this.line += 1;
        this.at += 1;
    }
    noted(path) {
        this.note(path, this.line);
        return path;
    }
    note(path, line) {
        const id = key(path);
        if (!this.lines.has(id))
            this.lines.set(id, line);
    }
}
function key(path) {
    return JSON.stringify(path.map(String));
}
/** A basic string has JSON's escapes and a few more; keys that use those are found by their table's line. */
function unescaped(quoted) {
    try {
        return JSON.parse(quoted);
    }
    catch {
        return quoted;
    }
}
//# sourceMappingURL=toml_lines.js.map