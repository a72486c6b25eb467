/** Builds of the addon and of the native tests with a sabotage compiled in, or with none. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { command } from '../scenario/command.js';
import { CONTROL } from './mutant.js';
const OBJECTS = path.resolve('build/Release/obj.target/afterimage');
const SECONDS_MAX = 900;
const jobs = String(os.cpus().length);
/** The sources that know a sabotage, by its name. */
export function sabotages() {
    const found = new Map();
    const sources = readdirSync('native', { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.cc'))
        .map((file) => path.join('native', file));
    for (const source of sources) {
        const names = [...readFileSync(source, 'utf8').matchAll(/AFTERIMAGE_SABOTAGE_(\w+)/g)];
        for (const name of new Set(names.map((match) => match[1] ?? '')))
            found.set(name, [...(found.get(name) ?? []), source]);
    }
    return found;
}
/** The program of the native tests. Errors: whatever the compiler or the linker said. */
export async function nativeTests(name) {
    const args = ['-s', '-C', 'test/native', `-j${jobs}`];
    const program = path.resolve(`build/native-plain${name === CONTROL ? '' : `-${name}`}/tests`);
    await command('make', [...args, ...(name === CONTROL ? [program] : [`SABOTAGE=${name}`])], {
        secondsMax: SECONDS_MAX,
    });
    return program;
}
/**
 * Compiles the files that know the sabotage as node-gyp compiled them, and links them with the others' objects; the
 * control compiles the files of all sabotages. Errors: also when Node cannot load the addon, since a test that cannot
 * even begin has noticed nothing.
 */
export async function addon(name) {
    const directory = path.resolve('build', `mutant-${name}`);
    mkdirSync(directory, { recursive: true });
    const known = sabotages();
    const sources = new Set(name === CONTROL ? [...known.values()].flat() : known.get(name));
    const objects = [];
    for (const entry of readdirSync(OBJECTS, { recursive: true, encoding: 'utf8' })) {
        if (!entry.endsWith('.o'))
            continue;
        const source = entry.replace(/\.o$/, '.cc');
        if (!sources.has(source)) {
            objects.push(path.join(OBJECTS, entry));
            continue;
        }
        const object = path.join(directory, path.basename(entry));
        const flags = ['-std=c++20', '-O2', '-g', '-fPIC', '-pthread', '-fvisibility=hidden'];
        flags.push('-D_FILE_OFFSET_BITS=64', '-Inative', '-Inode_modules/lz4/deps/lz4/lib');
        flags.push(`-DAFTERIMAGE_SABOTAGE_${name}=1`);
        await command('g++', [...flags, '-c', '-o', object, source], { secondsMax: SECONDS_MAX });
        objects.push(object);
    }
    const file = path.join(directory, 'afterimage.node');
    // Bound at once, so that a symbol that is missing shows when the addon is loaded and not when a test comes to it.
    await command('g++', ['-shared', '-pthread', '-Wl,-z,now', '-o', file, ...objects], {
        secondsMax: SECONDS_MAX,
    });
    const door = pathToFileURL(path.resolve('dist/native/index.js')).href;
    await command(process.execPath, ['--input-type=module', '-e', `await import('${door}')`], {
        env: { ...process.env, AFTERIMAGE_ADDON: file },
    });
    return file;
}
//# sourceMappingURL=addon.js.map