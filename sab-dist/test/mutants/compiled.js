/** The compiled TypeScript with a sabotage: a whole copy, so that every process that a test starts is of it. */
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
/** What programs look for beside dist/. */
const BESIDE = ['build', 'node_modules', 'package.json', 'test'];
/** Returns the copy's dist/. Errors: when a module does not hold what is to be changed, once. */
export function compiled(name, texts) {
    const root = path.resolve('build', `mutant-${name}`);
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    for (const entry of BESIDE)
        symlinkSync(path.resolve(entry), path.join(root, entry));
    const dist = path.join(root, 'dist');
    cpSync('dist', dist, { recursive: true });
    for (const { module, from, to } of texts) {
        const file = path.join(dist, module);
        const parts = readFileSync(file, 'utf8').split(from);
        if (parts.length !== 2)
            throw new Error(`${name}: ${module} has ${parts.length - 1} times: ${from}`);
        writeFileSync(file, parts.join(to));
    }
    return dist;
}
//# sourceMappingURL=compiled.js.map