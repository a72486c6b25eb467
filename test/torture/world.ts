/** What a round breaks: a site under load, with everything between its parts that can go wrong. */
import { mkdir } from 'node:fs/promises';
import type { GroupStatus } from '../../proto/control.js';
import { FaultDirectory } from '../fault/fault_directory.js';
import { command } from '../scenario/command.js';
import type { Scratch } from '../scenario/scratch.js';
import { Site, type SiteVolume } from '../scenario/site.js';
import { tmpfs } from '../scenario/tmpfs.js';
import type { DatabaseImage } from './database.js';
import type { RoundPlan } from './plan.js';
import { SiteControl } from './site_control.js';
import { TcpProxy } from './tcp_proxy.js';

/** Its stable links are of the whole machine. */
export const GROUP = `torture-${process.pid}`;
const MIB = 1 << 20;
export const STORE_BYTES = 2048 * MIB;
const SHORT_HISTORY = '[retention]\nwindow = "1h"\nfloor = "1s"\nbytes_max = "16MiB"\n';
/** What a host that is lost knows not to be in doubt is to be worth something. */
const UNMARKED_SOON = 'unmark_after = "200ms"';
export const DATABASE = 'database';

export interface BackedVolume {
  name: string;
  backing: string;
}
export interface StampedVolume extends BackedVolume {
  bytes: number;
}

export interface World {
  scratch: Scratch;
  site: Site;
  control: SiteControl;
  proxy: TcpProxy;
  /** By number of the volume: those that the stamp writers write to. */
  stamped: readonly StampedVolume[];
  /** After them, one with a database in it, which no faulty disk holds. */
  database: BackedVolume;
  /** Mount point of a file system of its own that the store lies on; null: it lies in a faulty directory. */
  storeDisk: string | null;
  storeFaults: FaultDirectory | null;
  stateFaults: FaultDirectory | null;
  backingFaults: FaultDirectory | null;
}

/** Where the agent serves a volume: a device, or a socket. */
export function deviceOf(group: GroupStatus, volume: string): string {
  const found = group.volumes.find(({ name }) => name === volume);
  if (found === undefined) throw new Error(`the agent does not name ${volume}`);
  return found.device;
}

/** Everything made, nothing started. */
export async function makeWorld(scratch: Scratch, plan: RoundPlan, image: DatabaseImage): Promise<World> {
  const memory = await tmpfs(scratch, 'memory', STORE_BYTES);
  const storeDisk = plan.store === 'small' ? await tmpfs(scratch, 'disk', STORE_BYTES) : null;
  const faulty = async (is: boolean, name: string): Promise<FaultDirectory | null> =>
    is ? FaultDirectory.start(scratch, name) : null;
  const storeFaults = await faulty(plan.store === 'faulty', 'store-faults');
  const stateFaults = await faulty(plan.hasFaultyState, 'state-faults');
  const backingFaults = await faulty(plan.hasFaultyBacking, 'backing-faults');

  if (stateFaults !== null) {
    await mkdir(`${stateFaults.mount}/state`, { mode: 0o700 });
    await command('sync', [stateFaults.mount]);
  }

  const sizes = plan.volumes === 'loop-and-socket' ? [12 * MIB, 4 * MIB] : [16 * MIB];
  const directory = backingFaults?.mount ?? scratch.directory;
  const stamped: StampedVolume[] = [];
  const volumes: SiteVolume[] = [];
  for (const [index, bytes] of sizes.entries()) {
    const name = `disk${index}`;
    const backing = `${directory}/${name}.img`;
    await command('truncate', ['-s', String(bytes), backing]);
    await command('sync', [backing, directory]);
    stamped.push({ name, bytes, backing });
    volumes.push({ name, backing, attach: index === 0 ? 'loop' : 'socket' });
  }
  const database: BackedVolume = { name: DATABASE, backing: scratch.path('database.img') };
  await image.copyTo(database.backing);
  volumes.push({ ...database, attach: 'loop' });

  // Overlays have holes punched, which a faulty directory does not know.
  const overlays = scratch.path('overlays');
  await mkdir(overlays);
  let proxy: TcpProxy | null = null;
  const site = await Site.create(scratch, {
    group: GROUP,
    volumes,
    ringBytes: plan.ringBytes,
    groupLines: [
      ...(plan.spoolBytes === null ? [] : [`spool_bytes_max = "${plan.spoolBytes}"`]),
      ...(plan.faults.includes('host-lost') ? [UNMARKED_SOON] : []),
    ],
    segmentBytes: '4MiB',
    store: storeDisk === null ? `${storeFaults?.mount}/store` : `${storeDisk}/store`,
    supervised: true,
    receiver: `scratch_dir = "${overlays}"\n${plan.isHistoryShort ? SHORT_HISTORY : ''}`,
    ...(stateFaults === null ? {} : { state: `${stateFaults.mount}/state` }),
    via: async (listen) => {
      proxy = await TcpProxy.start(listen);
      return proxy.address;
    },
  });
  if (proxy === null) throw new Error('the site asked for no proxy');
  const between: TcpProxy = proxy;
  scratch.defer('proxy', () => between.stop());
  const control = new SiteControl(site, `${memory}/recovered`);
  const faults = { storeFaults, stateFaults, backingFaults };
  return { scratch, site, control, proxy: between, stamped, database, storeDisk, ...faults };
}
