/**
 * Reads a TOML configuration against a strict schema. Every complaint names file, line, key and what was expected:
 * a typo in a backup tool's configuration must not turn into a default.
 */
import { readFile } from 'node:fs/promises';
import { parse, TomlError } from 'smol-toml';
import { AfterimageError, isErrorCode } from '../proto/errors.js';
import { systemError } from './system_errors.js';
import { nearMiss } from './near_miss.js';
import { TomlLines } from './toml_lines.js';
export * from './settings.js';
/** Complaints that one error lists. */
const COMPLAINTS_MAX = 10;
/**
 * The configuration in `file`, as `schema` gives it out. Tables must be `z.strictObject`, so that unknown keys are
 * found. A custom issue may carry `params: {code}` with a code of the registry.
 * Errors: CONFIG_MISSING, PERMISSION_DENIED, IO_ERROR, CONFIG_INVALID, and the codes that the schema's issues carry.
 */
export async function loadConfig(file, schema) {
    let text;
    try {
        text = await readFile(file, 'utf8');
    }
    catch (cause) {
        const { code } = cause;
        if (code === 'ENOENT' || code === 'ENOTDIR') {
            throw new AfterimageError('CONFIG_MISSING', `${file} does not exist`, { cause });
        }
        if (code === 'EISDIR')
            throw new AfterimageError('CONFIG_INVALID', `${file} is a directory`, { cause });
        throw systemError(cause, `${file} cannot be read`);
    }
    return parseConfig(text, file, schema);
}
/** As loadConfig, from the text; `file` is for the messages. Errors: CONFIG_INVALID and the schema's codes. */
export function parseConfig(text, file, schema) {
    const document = parseToml(text, file);
    const result = schema.safeParse(document);
    if (result.success)
        return result.data;
    const lines = new TomlLines(text);
    const complaints = result.error.issues
        .flatMap((issue) => complaintsOf(issue, document, schema, lines))
        .sort((left, right) => left.line - right.line);
    const shown = complaints.slice(0, COMPLAINTS_MAX).map(({ line, text }) => `${file}:${line}: ${text}`);
    if (complaints.length > shown.length)
        shown.push(`and ${complaints.length - shown.length} more`);
    throw new AfterimageError(complaints[0]?.code ?? 'CONFIG_INVALID', shown.join('\n'));
}
function parseToml(text, file) {
    try {
        return parse(text, { integersAsBigInt: 'asNeeded', unsafeKeyBehaviour: 'throw' });
    }
    catch (cause) {
        if (!(cause instanceof TomlError))
            throw cause;
        // The message goes on with a drawing of the place, which file and line already name.
        const reason = cause.message.split('\n')[0] ?? '';
        const message = `${file}:${cause.line}:${cause.column}: ${reason.replace(/^Invalid TOML document: /, '')}`;
        throw new AfterimageError('CONFIG_INVALID', message, { cause });
    }
}
function complaintsOf(issue, document, schema, lines) {
    if (issue.code === 'unrecognized_keys') {
        const known = knownKeys(schema, issue.path);
        return issue.keys.map((unknown) => {
            const path = [...issue.path, unknown];
            const meant = nearMiss(unknown, known);
            const remedy = meant === null ? `known here: ${known.join(', ')}` : `did you mean "${meant}"?`;
            return {
                line: lines.lineOf(path),
                code: 'CONFIG_INVALID',
                text: `${dotted(path)} is not a setting; ${remedy}`,
            };
        });
    }
    const code = issue.code === 'custom' ? issue.params?.['code'] : undefined;
    return [
        {
            line: lines.lineOf(issue.path),
            code: isErrorCode(code) ? code : 'CONFIG_INVALID',
            text: `${dotted(issue.path)}: ${reasonOf(issue, valueAt(document, issue.path))}`,
        },
    ];
}
/** TOML's words for zod's types. */
const TOML_WORDS = {
    string: 'a string',
    number: 'a number',
    int: 'an integer',
    boolean: 'true or false',
    array: 'an array',
    object: 'a table',
};
function reasonOf(issue, value) {
    // zod's own messages read "Invalid input: expected string, received number".
    const named = /expected (.*?)(?:, received .*)?$/.exec(issue.message)?.[1];
    if (named === undefined)
        return issue.message;
    const expected = TOML_WORDS[named] ?? named;
    if (value === undefined)
        return `missing; expected ${expected}`;
    const choices = issue.code === 'invalid_value' ? issue.values.map(String) : [];
    const meant = typeof value === 'string' ? nearMiss(value, choices) : null;
    return `expected ${expected}, not ${shown(value)}${meant === null ? '' : `; did you mean "${meant}"?`}`;
}
function shown(value) {
    if (Array.isArray(value))
        return 'an array';
    if (typeof value === 'string')
        return JSON.stringify(value);
    if (value instanceof Date)
        return 'a date';
    if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
        return String(value);
    return 'a table';
}
/** group[1].volume[0].name, counting from 1 as a reader does; the document itself is "the file". */
function dotted(path) {
    const text = path.map((part) => (typeof part === 'number' ? `[${part + 1}]` : `.${String(part)}`)).join('');
    return text === '' ? 'the file' : text.slice(1);
}
function valueAt(document, path) {
    let value = document;
    for (const part of path) {
        if (typeof value !== 'object' || value === null)
            return undefined;
        value = value[part];
    }
    return value;
}
/** The keys of the table that `schema` describes at `path`. */
function knownKeys(schema, path) {
    let at = schema;
    for (const part of path) {
        const { shape, element } = structureOf(at);
        at = typeof part === 'number' ? element : shape?.[String(part)];
    }
    return Object.keys(structureOf(at).shape ?? {});
}
/** The object or array inside defaults, optionals, refinements and transforms. */
function structureOf(schema) {
    let at = schema;
    while (at !== undefined) {
        const def = at._zod.def;
        if (def.shape !== undefined || def.element !== undefined)
            return def;
        at = def.innerType ?? def.in;
    }
    return {};
}
//# sourceMappingURL=config.js.map