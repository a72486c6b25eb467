/** What most scenarios begin with: a site that protects one new, empty volume as a socket. */
import type { Test } from 'tap';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { nbdUri, Site, type GroupReport, type SiteOptions } from './site.js';

export interface SocketSite {
  site: Site;
  /** The file that holds the volume, which is called "disk". */
  backing: string;
  uri: string;
  /** What the agent said of the group once it was protected. */
  ready: GroupReport;
}

/** Started and settled; all of it is gone when the test ends. `name` marks its directory. */
export async function socketSite(
  t: Test,
  name: string,
  bytes: number,
  options: Omit<SiteOptions, 'volumes'>,
): Promise<SocketSite> {
  const scratch = await Scratch.create(name);
  t.teardown(() => scratch.clean());
  const backing = scratch.path('volume.img');
  await command('truncate', ['-s', String(bytes), backing]);
  const site = await Site.create(scratch, {
    ...options,
    volumes: [{ name: 'disk', backing, attach: 'socket' }],
  });
  await site.start();
  const ready = await site.settled();
  return { site, backing, uri: nbdUri(ready), ready };
}

/** Four MiB of one byte, flushed. */
export const writePattern = (uri: string, byte: string, megabyte = 0): Promise<unknown> =>
  command('qemu-io', ['-f', 'raw', '-c', `write -P ${byte} ${megabyte}M 4M`, '-c', 'flush', uri]);
