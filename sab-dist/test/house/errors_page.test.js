import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ERRORS, EXIT } from '../../proto/errors.js';
import { ERRORS_PAGE, errorsPage } from '../../scripts/errors_page.js';
import { sources } from './layers.js';
const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');
t.test('docs/ERRORS.md is what the registry says; scripts/errors-page renews it', (t) => {
    t.equal(readFileSync(ERRORS_PAGE, 'utf8'), errorsPage());
    t.end();
});
t.test('every code has a remedy in a sentence and a documented exit status', (t) => {
    const statuses = new Set(Object.values(EXIT));
    for (const [code, { hint, exit }] of Object.entries(ERRORS)) {
        t.match(code, /^[A-Z][A-Z0-9_]+$/);
        t.match(hint, /^[A-Z`a-z].*[.)]$/, `${code} has a remedy`);
        t.ok(statuses.has(exit), `${code} ends with a documented status`);
    }
    t.end();
});
t.test('every code that the C++ core gives is in the registry: another would be shown as a defect', (t) => {
    const native = [...sources(ROOT)].filter(([file]) => /^native\/.*\.(cc|h)$/.test(file));
    const codes = native.flatMap(([, text]) => text.match(/(?<=(?:Error\{|error\(|[=?:]) *")[A-Z]+(?:_[A-Z]+)+(?=")/g) ?? []);
    t.ok(codes.length > 100, `${codes.length} places give a code`);
    t.same(codes.filter((code) => !(code in ERRORS)), []);
    t.end();
});
//# sourceMappingURL=errors_page.test.js.map