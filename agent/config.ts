/** agent.toml: what a protected host protects, and where to. Errors name file, line and key (service/config.ts). */
import path from 'node:path';
import { z } from 'zod';
import {
  absolutePath,
  byteSize,
  duration,
  loadConfig,
  logLevel,
  loopbackAddress,
  loopbackListenAddress,
  name,
  networkAddress,
  SOCKET_PATH_BYTES_MAX,
  socketPath,
  type LogLevel,
  type LoopbackAddress,
  type NetworkAddress,
} from '../service/config.js';
import { toAfterimageError, type ErrorCode } from '../proto/errors.js';
import { MAPPED_NAME_BYTES_MAX, MAPPER_DIR, mappedBacking } from './mapped_device.js';
import { FUSE_THREADS_MAX, RING_BYTES_MIN, UNMARK_AFTER_MS } from './served_bounds.js';

const RING_BYTES_MAX = 64n << 30n;
/** native/capture/spooler.h, kSpoolBytesMin. */
const SPOOL_BYTES_MIN = 16n << 20n;
const SPOOL_BYTES_MAX = 64n << 40n;
/** Bytes per second. */
const RATE_MIN = 1n << 20n;
const RATE_MAX = 1n << 40n;
const LINGER_NS_MIN = 100_000n;
const LINGER_NS_MAX = 1_000_000_000n;
const UNMARK_NS_MIN = 100_000_000n;
const UNMARK_NS_MAX = 3_600_000_000_000n;
const FUSE_THREADS_DEFAULT = 4;
/** native/journal/frame.h, kVolumeNumberMax + 1. */
const VOLUMES_MAX = 64;
const GROUPS_MAX = 64;

/** Where an NBD export listens. */
export type SocketAddress = { unix: string } | { tcp: LoopbackAddress };
/** How the host gets at a protected volume. */
export type AttachConfig =
  { kind: 'loop'; threads: number } | { kind: 'nbd' } | { kind: 'socket'; address: SocketAddress };

export interface VolumeConfig {
  name: string;
  backing: string;
  /** "/dev/mapper/NAME" of a device that the host goes on using while it is protected; null: it uses what is attached. */
  mapped: string | null;
  cache: 'buffered' | 'direct';
  attach: AttachConfig;
}
/** Where what the ring has no room for goes: a directory for all groups, and how much of it one may take. */
export interface SpoolConfig {
  directory: string;
  bytesMax: bigint;
}
export interface GroupConfig {
  name: string;
  ringBytes: bigint;
  lingerUs: number;
  /** An extent that nobody has written to for so long is not in doubt any more (native/capture/dirty_log_cleaner.h). */
  unmarkAfterMs: number;
  /** Null: none. */
  spool: SpoolConfig | null;
  /** Bytes per second that an initial sync or a resync may read; null: no bound. */
  resyncRateMax: bigint | null;
  volumes: VolumeConfig[];
}
/** Where the receiver is: `joined`, null: where this host has joined it; `plain`: on this machine, without TLS and identity. */
export type ReceiverConfig = { joined: NetworkAddress | null } | { plain: LoopbackAddress };
export interface AgentConfig {
  receiver: ReceiverConfig;
  /** What `agent join` writes. */
  identityFile: string;
  stateDir: string;
  runDir: string;
  /** Path of the control socket. */
  control: string;
  /** Where /metrics and the like are; null: nowhere. */
  metrics: LoopbackAddress | null;
  logLevel: LogLevel;
  groups: GroupConfig[];
}

/** As dmsetup takes names without changing them. */
const mappedPath = z
  .string()
  .regex(/^\/dev\/mapper\/[\w+.@-]+$/, { error: `expected a device such as ${MAPPER_DIR}/data` })
  .refine((text) => text.length <= MAPPER_DIR.length + 1 + MAPPED_NAME_BYTES_MAX, {
    error: `expected a name of at most ${MAPPED_NAME_BYTES_MAX} bytes`,
  });

const volume = z.strictObject({
  name,
  backing: absolutePath.optional(),
  mapped: mappedPath.optional(),
  attach: z.enum(['loop', 'socket', 'nbd']).default('loop'),
  socket: socketPath.optional(),
  tcp: loopbackListenAddress.optional(),
  cache: z.enum(['buffered', 'direct']).default('buffered'),
  threads: z.int().min(1).max(FUSE_THREADS_MAX).optional(),
});

const group = z.strictObject({
  name,
  ring_bytes: byteSize(RING_BYTES_MIN, RING_BYTES_MAX).prefault('256MiB'),
  frame_linger: duration(LINGER_NS_MIN, LINGER_NS_MAX).prefault('3ms'),
  unmark_after: duration(UNMARK_NS_MIN, UNMARK_NS_MAX).prefault(`${UNMARK_AFTER_MS}ms`),
  spool_bytes_max: byteSize(SPOOL_BYTES_MIN, SPOOL_BYTES_MAX).optional(),
  resync_rate_max: byteSize(RATE_MIN, RATE_MAX).optional(),
  volume: z.array(volume).min(1, { error: 'expected at least one [[group.volume]]' }),
});

const file = z
  .strictObject({
    receiver: networkAddress.optional(),
    receiver_plain: loopbackAddress.optional(),
    state_dir: absolutePath.default('/var/lib/afterimage/agent'),
    spool_dir: absolutePath.optional(),
    run_dir: absolutePath.default('/run/afterimage'),
    control: socketPath.optional(),
    metrics: loopbackListenAddress.optional(),
    log_level: logLevel.default('info'),
    group: z
      .array(group)
      .min(1, { error: 'expected at least one [[group]]' })
      .max(GROUPS_MAX, { error: `expected at most ${GROUPS_MAX} groups` }),
  })
  .superRefine(checkRelations);

type FileConfig = z.output<typeof file>;
type FileVolume = z.output<typeof volume>;

/** The schema of agent.toml; its output is what the agent runs with. */
export const agentConfig = file.transform(fromFile);

/** Errors: CONFIG_MISSING, CONFIG_INVALID, ADDRESS_NOT_LOOPBACK, VOLUME_LIMIT, PERMISSION_DENIED. */
export async function loadAgentConfig(configPath: string): Promise<AgentConfig> {
  return loadConfig(configPath, agentConfig);
}

/** The state directory that a configuration names, if it is there; what else it holds is not looked at. Errors: CONFIG_INVALID. */
export async function stateDirOf(configPath: string): Promise<string> {
  const lenient = z.object({ state_dir: file.shape.state_dir });
  const empty = lenient.parse({});
  const { state_dir } = await loadConfig(configPath, lenient).catch((thrown: unknown) => {
    if (toAfterimageError(thrown).code === 'CONFIG_MISSING') return empty;
    throw thrown;
  });
  return state_dir;
}

/** What no single key can tell: names, backings and sockets used twice, and keys that do not fit `attach`. */
function checkRelations(config: FileConfig, context: z.RefinementCtx): void {
  const complain = (at: PropertyKey[], message: string, code: ErrorCode = 'CONFIG_INVALID'): void => {
    context.addIssue({ code: 'custom', path: at, message, params: { code } });
  };
  const taken = new Map<string, string>();
  const claim = (key: string, owner: string, at: PropertyKey[], what: string): void => {
    const other = taken.get(key);
    if (other === undefined) taken.set(key, owner);
    else complain(at, `${what} is already that of ${other}`);
  };
  claim(`socket ${controlPath(config)}`, 'the control socket', ['control'], 'the socket');
  if (Buffer.byteLength(controlPath(config)) > SOCKET_PATH_BYTES_MAX) {
    const path = controlPath(config);
    complain(
      ['run_dir'],
      `the control socket ${path} has a path of more than ${SOCKET_PATH_BYTES_MAX} bytes`,
    );
  }
  if (config.receiver !== undefined && config.receiver_plain !== undefined)
    complain(['receiver_plain'], 'either receiver or receiver_plain, not both');
  config.group.forEach((one, g) => {
    claim(`group ${one.name}`, `group ${one.name}`, ['group', g, 'name'], `the name ${one.name}`);
    if (one.volume.length > VOLUMES_MAX) {
      complain(['group', g, 'volume'], `${one.volume.length} volumes in one group`, 'VOLUME_LIMIT');
    }
    one.volume.forEach((each, v) => {
      const at = ['group', g, 'volume', v];
      const owner = `${one.name}/${each.name}`;
      claim(`volume ${owner}`, owner, [...at, 'name'], `the name ${each.name}`);
      if ((each.backing === undefined) === (each.mapped === undefined))
        complain(at, 'expected either backing or mapped');
      if ((each.mapped === undefined) !== (one.volume[0]?.mapped === undefined))
        complain(at, 'a group has either mapped volumes or others: they are inserted together');
      const key = each.mapped === undefined ? 'backing' : 'mapped';
      claim(`backing ${backingOf(each)}`, owner, [...at, key], 'the backing');
      checkAttach(each, at, complain);
      if (each.attach !== 'socket') return;
      const address = socketAddress(config.run_dir, one.name, each);
      if ('unix' in address) {
        claim(`socket ${address.unix}`, owner, [...at, 'socket'], 'the socket');
        if (Buffer.byteLength(address.unix) > SOCKET_PATH_BYTES_MAX) {
          complain(at, `its socket ${address.unix} has a path of more than ${SOCKET_PATH_BYTES_MAX} bytes`);
        }
      } else if (address.tcp.port !== 0) {
        claim(`tcp ${address.tcp.host} ${address.tcp.port}`, owner, [...at, 'tcp'], 'the address');
      }
    });
  });
}

function checkAttach(
  config: FileVolume,
  at: PropertyKey[],
  complain: (at: PropertyKey[], message: string) => void,
): void {
  if (config.attach !== 'socket') {
    for (const key of ['socket', 'tcp'] as const) {
      if (config[key] !== undefined) complain([...at, key], `${key} needs attach = "socket"`);
    }
  } else if (config.socket !== undefined && config.tcp !== undefined) {
    complain([...at, 'tcp'], 'either socket or tcp, not both');
  }
  if (config.mapped !== undefined && config.attach === 'socket')
    complain([...at, 'attach'], 'mapped needs attach = "loop" or "nbd"');
  if (config.attach !== 'loop' && config.threads !== undefined)
    complain([...at, 'threads'], 'threads needs attach = "loop"');
}

function fromFile(config: FileConfig): AgentConfig {
  const spoolDir = config.spool_dir ?? path.join(config.state_dir, 'spool');
  return {
    receiver:
      config.receiver_plain === undefined
        ? { joined: config.receiver ?? null }
        : { plain: config.receiver_plain },
    identityFile: identityFile(config.state_dir),
    stateDir: config.state_dir,
    runDir: config.run_dir,
    control: controlPath(config),
    metrics: config.metrics ?? null,
    logLevel: config.log_level,
    groups: config.group.map((one) => ({
      name: one.name,
      ringBytes: one.ring_bytes,
      lingerUs: Number(one.frame_linger / 1_000n),
      unmarkAfterMs: Number(one.unmark_after / 1_000_000n),
      spool:
        one.spool_bytes_max === undefined ? null : { directory: spoolDir, bytesMax: one.spool_bytes_max },
      resyncRateMax: one.resync_rate_max ?? null,
      volumes: one.volume.map((each) => ({
        name: each.name,
        backing: backingOf(each),
        mapped: each.mapped ?? null,
        cache: each.cache,
        attach: attachment(config.run_dir, one.name, each),
      })),
    })),
  };
}

/** "" where the configuration names none, which is an error of its own. */
function backingOf({ backing, mapped }: FileVolume): string {
  return mapped === undefined ? (backing ?? '') : mappedBacking(mapped);
}

function attachment(runDir: string, groupName: string, config: FileVolume): AttachConfig {
  switch (config.attach) {
    case 'loop':
      return { kind: 'loop', threads: config.threads ?? FUSE_THREADS_DEFAULT };
    case 'nbd':
      return { kind: 'nbd' };
    case 'socket':
      return { kind: 'socket', address: socketAddress(runDir, groupName, config) };
  }
}

function controlPath(config: FileConfig): string {
  return config.control ?? path.join(config.run_dir, 'agent.sock');
}

/** Of an agent with that state directory. */
export function identityFile(stateDir: string): string {
  return path.join(stateDir, 'identity.json');
}

function socketAddress(runDir: string, groupName: string, config: FileVolume): SocketAddress {
  if (config.tcp !== undefined) return { tcp: config.tcp };
  return { unix: config.socket ?? path.join(runDir, `${groupName}-${config.name}.sock`) };
}
