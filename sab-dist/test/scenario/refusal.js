/** Commands that must be refused, and what a refusal owes to whoever gets it. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterimage } from './site.js';
const ERRORS_PAGE = fileURLToPath(new URL('../../../docs/ERRORS.md', import.meta.url));
const ANY_STATUS = Array.from({ length: 255 }, (_, index) => index + 1);
/** Its row of docs/ERRORS.md: `code` | what to do | retryable | exit status. */
async function documented(code) {
    const page = await readFile(ERRORS_PAGE, 'utf8');
    const row = new RegExp(`^\\| \`${code}\` \\| (.+) \\| (yes|no) \\| (\\d+) \\|$`, 'm').exec(page);
    return row && { hint: row[1], retryable: row[2] === 'yes', status: Number(row[3]) };
}
/**
 * Runs a command that must be refused with a code. Its message has to name the subject; remedy and exit status have to
 * be those of the documentation, on the terminal as well as in JSON, and nothing may be claimed on stdout.
 */
export async function refused(t, code, subject, args) {
    const result = await afterimage([...args, '--json'], ANY_STATUS);
    const line = result.stderr.split('\n').find((text) => text.startsWith('{"error"'));
    if (result.status === 0 || line === undefined)
        throw new Error(`not refused: ${JSON.stringify(result)}`);
    const { error } = JSON.parse(line);
    const page = await documented(code);
    t.test(`${code}: ${error.message}`, (t) => {
        t.equal(error.code, code);
        if (typeof subject === 'string')
            t.ok(error.message.includes(subject), `names ${subject}`);
        else
            t.match(error.message, subject);
        t.not(error.message.trim(), error.hint.trim(), 'what happened is not what to do');
        t.same({ hint: error.hint, retryable: error.retryable, status: result.status }, page, 'is as documented');
        t.equal(result.stdout, '');
        t.end();
    });
}
/** As a reader sees it, without --json. */
export async function refusedInWords(t, code, args) {
    const { status, stderr } = await afterimage(args, ANY_STATUS);
    const page = await documented(code);
    t.equal(status, page?.status);
    t.ok(new RegExp(`^error ${code}: [^→]+\\n  → `, 'm').test(stderr), stderr.trim());
    t.ok(stderr.includes(page?.hint ?? 'undocumented'), 'with the remedy');
}
//# sourceMappingURL=refusal.js.map