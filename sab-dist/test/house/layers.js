/**
 * Finds every import that runs against the layers (docs/ARCHITECTURE.md):
 *   cli → agent, receiver → service, native → proto; tests, benches and scripts may import anything;
 *   agent and receiver never import each other; the native core knows nothing of Node-API, only native/binding does;
 *   the independent replay, whose verdict is an oracle, imports nothing that it judges.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
/** What each layer may import, itself apart. */
const BELOW = {
    proto: [],
    native: ['proto'],
    service: ['proto'],
    agent: ['service', 'native', 'proto'],
    receiver: ['service', 'native', 'proto'],
    cli: ['agent', 'receiver', 'service', 'native', 'proto'],
};
/** A reader that shares a line with the code under test would share its mistakes. */
const REPLAY = 'test/replay';
const REPLAY_MAY_IMPORT = /^(node:.*|tap)$/;
const IMPORT = /(?<![.\w])(?:from|import|require)\s*\(?\s*'([^']+)'/g; // and no Buffer.from('…')
const NODE_API = /#include\s+[<"](?:napi|node_api|uv|v8)[.\w]*[>"]/g;
/** `files` maps paths, relative to the root of the project, to their text. */
export function breaches(files) {
    return [...files].flatMap(([file, text]) => /\.(cc|h)$/.test(file) ? nativeBreaches(file, text) : importBreaches(file, text));
}
function importBreaches(file, text) {
    const imports = [...text.matchAll(IMPORT)].map((match) => match[1] ?? '');
    const isOwn = (specifier) => specifier.startsWith('.');
    const resolved = (specifier) => isOwn(specifier) ? path.posix.join(path.posix.dirname(file), specifier) : specifier;
    if (isIn(REPLAY, file)) {
        return imports
            .map(resolved)
            .filter((imported) => !isIn(REPLAY, imported) && !REPLAY_MAY_IMPORT.test(imported))
            .map((imported) => ({ file, imported }));
    }
    const layer = layerOf(file);
    const allowed = BELOW[layer];
    if (allowed === undefined)
        return [];
    return imports
        .filter(isOwn)
        .map(resolved)
        .filter((imported) => layerOf(imported) !== layer && !allowed.includes(layerOf(imported)))
        .map((imported) => ({ file, imported }));
}
function nativeBreaches(file, text) {
    if (file.startsWith('native/binding/'))
        return [];
    return [...text.matchAll(NODE_API)].map(([imported]) => ({ file, imported }));
}
function isIn(directory, file) {
    return file.startsWith(`${directory}/`);
}
function layerOf(file) {
    return file.split('/')[0] ?? '';
}
/** The sources of every layer, and of the independent replay, under `root`. */
export function sources(root) {
    const files = new Map();
    for (const layer of [...Object.keys(BELOW), REPLAY]) {
        for (const entry of readdirSync(path.join(root, layer), { recursive: true, encoding: 'utf8' })) {
            const file = path.posix.join(layer, entry);
            const isSource = /\.(ts|cc|h)$/.test(file) && !file.startsWith('proto/gen/');
            if (isSource)
                files.set(file, readFileSync(path.join(root, file), 'utf8'));
        }
    }
    return files;
}
//# sourceMappingURL=layers.js.map