/** docs/ERRORS.md, made from the registry in proto/errors.ts. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERRORS, EXIT } from '../proto/errors.js';
const EXIT_MEANING = {
    ok: 'It is done.',
    failure: 'Something failed: a disk, a system call, or Afterimage itself (`INTERNAL`).',
    usage: 'The command line cannot be meant.',
    config: 'A configuration, or a directory that it names, must be corrected first.',
    refused: 'It would have done harm, or is not allowed. Nothing was changed.',
    notFound: 'What was named does not exist.',
    unavailable: 'A daemon, a peer or a kernel facility is not there.',
    busy: 'Somebody else uses it.',
    full: 'There is no space left.',
    damaged: 'Data is not what it was when it was written.',
    repaired: '`receiver fsck`: what it found is set right.',
    repairable: '`receiver fsck`: what it found can be set right with `--repair`.',
    unchecked: '`receiver fsck`: something could not be read, and nothing can be said of it.',
    interrupted: 'Ctrl-C, or another signal to end.',
};
const HEAD = `# Errors

<!-- Made by scripts/errors-page from proto/errors.ts: change it there. -->

Every error has a code that does not change from version to version. The command shows it on stderr:

    error POINT_UNKNOWN: shop has no history before 2026-01-31T10:15:00.000000000Z
      → \`afterimage timeline GROUP\` shows the window.

and with \`--json\` as one object: \`{"error":{"code":…,"message":…,"hint":…,"retryable":…}}\`. Logs carry the code in
\`err.code\`. Programs match on the code, never on the message. *Retryable* says that trying again can help without
anybody doing anything.
`;
/** The whole page. */
export function errorsPage() {
    const codes = Object.entries(ERRORS).map(([code, { hint, retryable, exit }]) => `| \`${code}\` | ${cell(hint)} | ${retryable ? 'yes' : 'no'} | ${exit} |`);
    const exits = Object.keys(EXIT).map((name) => `| ${EXIT[name]} | ${EXIT_MEANING[name]} |`);
    return [
        HEAD,
        '## Codes\n',
        '| code | what to do | retryable | exit status |\n| --- | --- | --- | --- |',
        `${codes.join('\n')}\n`,
        '## Exit status\n',
        '| status | meaning |\n| --- | --- |',
        `${exits.join('\n')}\n`,
    ].join('\n');
}
/** Where the page lies, seen from dist/scripts/. */
export const ERRORS_PAGE = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../docs/ERRORS.md');
function cell(text) {
    return text.replaceAll('|', '\\|');
}
export function writeErrorsPage() {
    writeFileSync(ERRORS_PAGE, errorsPage());
}
//# sourceMappingURL=errors_page.js.map