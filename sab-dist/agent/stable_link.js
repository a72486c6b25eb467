/** /dev/afterimage/GROUP/VOLUME: the name of an attached device that stays, whatever number it gets. */
import { lstat, mkdir, rename, rm, rmdir, symlink } from 'node:fs/promises';
import path from 'node:path';
/** Replaces the link in one step, so that whoever follows it never finds it missing. */
export async function placeLink(link, device) {
    const temporary = `${link}.new`;
    await mkdir(path.dirname(link), { recursive: true, mode: 0o755 });
    await rm(temporary, { force: true });
    await symlink(device, temporary);
    await rename(temporary, link);
}
/** Of a predecessor that is dead. What is not a link is somebody else's, and stays. */
export async function clearLink(link) {
    const isLink = (await lstat(link).catch(() => null))?.isSymbolicLink() ?? false;
    if (isLink)
        await rm(link);
}
/** And the directory of the group, unless others still use it. */
export async function removeLink(link) {
    await rm(link, { force: true });
    await rmdir(path.dirname(link)).catch(() => undefined);
}
//# sourceMappingURL=stable_link.js.map