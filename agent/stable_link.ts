/** /dev/afterimage/GROUP/VOLUME: the name of an attached device that stays, whatever number it gets. */
import { lstat, mkdir, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

export const LINK_DIR = '/dev/afterimage';

/**
 * Replaces the link in one step, so that whoever follows it never finds it missing; then has the kernel announce the device again,
 * so that udev knows it by that name too (packaging/udev), and mounts that wait for it go on.
 */
export async function placeLink(link: string, device: string): Promise<void> {
  const temporary = `${link}.new`;
  await mkdir(path.dirname(link), { recursive: true, mode: 0o755 });
  await rm(temporary, { force: true });
  await symlink(device, temporary);
  await rename(temporary, link);
  // Where nobody may, or there is no such device, nobody waits for that either.
  await writeFile(`/sys/class/block/${path.basename(device)}/uevent`, 'change').catch(() => undefined);
}

/** Of a predecessor that is dead. What is not a link is somebody else's, and stays. */
export async function clearLink(link: string): Promise<void> {
  const isLink = (await lstat(link).catch(() => null))?.isSymbolicLink() ?? false;
  if (isLink) await rm(link);
}

/** And the directory of the group, unless others still use it. */
export async function removeLink(link: string): Promise<void> {
  await rm(link, { force: true });
  await rmdir(path.dirname(link)).catch(() => undefined);
}
