/** The base image of a scene's only volume, and how it rots. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { journalDirectory } from './synced_scene.js';
export async function baseFile(scene) {
    const directory = path.join(path.dirname(journalDirectory(scene)), 'base');
    const name = (await readdir(directory)).find((one) => one.endsWith('.img'));
    return path.join(directory, name ?? 'there is none');
}
/** Changes a byte of it. */
export async function rot(file, at) {
    const bytes = await readFile(file);
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    await writeFile(file, bytes);
}
//# sourceMappingURL=base_rot.js.map