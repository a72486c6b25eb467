/**
 * The kinds of value that a configuration file may hold, as zod schemas that take what TOML gives. A default is
 * written as the user would write it: `byteSize(…).prefault('256MiB')`.
 */
import path from 'node:path';
import { z } from 'zod';
import type { ErrorCode } from '../proto/errors.js';

/** Where to connect to, or to listen, by TLS. */
export interface NetworkAddress {
  /** An IP address, or a name. */
  host: string;
  port: number;
}

/** Where plain TCP may listen or connect: numeric, so that no name service decides what is loopback. */
export interface LoopbackAddress extends NetworkAddress {
  /** "127.x.y.z" or "::1". */
  host: string;
}

const KIB = 1024n;
type Units = ReadonlyMap<string, bigint>;
/** Ascending. */
const BYTE_UNITS: Units = new Map([
  ['B', 1n],
  ['KiB', KIB],
  ['MiB', KIB ** 2n],
  ['GiB', KIB ** 3n],
  ['TiB', KIB ** 4n],
]);
/** Ascending. */
const NANOSECOND_UNITS: Units = new Map([
  ['ns', 1n],
  ['us', 1_000n],
  ['ms', 1_000_000n],
  ['s', 1_000_000_000n],
  ['m', 60_000_000_000n],
  ['h', 3_600_000_000_000n],
  ['d', 86_400_000_000_000n],
]);
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;
const NAME_RULE = '1 to 64 letters, digits, ".", "_" or "-", beginning with a letter, a digit or "_"';
/** Longest path of a Unix socket: sun_path less its final NUL. */
export const SOCKET_PATH_BYTES_MAX = 107;

/** Whether `text` may name a group, a volume or a checkpoint. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

/** A group's or a volume's name. */
export const name = z.string().refine(isName, { error: `expected ${NAME_RULE}` });

/** An absolute path, normalized. */
export const absolutePath = z
  .string()
  .refine((text) => path.isAbsolute(text) && !text.includes('\0'), { error: 'expected an absolute path' })
  .transform((text) => path.normalize(text));

/** The absolute path of a Unix socket: at most SOCKET_PATH_BYTES_MAX bytes. */
export const socketPath = absolutePath.refine((text) => Buffer.byteLength(text) <= SOCKET_PATH_BYTES_MAX, {
  error: `expected the path of a socket, at most ${SOCKET_PATH_BYTES_MAX} bytes long`,
});

/** pino's levels. */
export const logLevel = z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']);
export type LogLevel = z.output<typeof logLevel>;

/** A number of bytes from `min` to `max`: 65536, "64KiB", "256MiB", "2GiB". */
export function byteSize(min: bigint, max: bigint) {
  const range = `from ${formatBytesExactly(min)} to ${formatBytesExactly(max)}`;
  const expected = `expected a size ${range}, such as 67108864 or "64MiB"`;
  return z.union([z.number(), z.bigint(), z.string()], { error: expected }).transform((input, context) => {
    const bytes = typeof input === 'string' ? withUnit(input, BYTE_UNITS) : wholeNumber(input);
    if (bytes !== null && bytes >= min && bytes <= max) return bytes;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

/** A length of time in nanoseconds from `min` to `max`: "500us", "3ms", "5s", "2m", "1h", "7d". */
export function duration(min: bigint, max: bigint) {
  const range = `from ${formatNanosecondsExactly(min)} to ${formatNanosecondsExactly(max)}`;
  const expected = `expected a duration ${range}, such as "3ms" or "5s"`;
  return z.string({ error: expected }).transform((input, context) => {
    const nanoseconds = withUnit(input, NANOSECOND_UNITS);
    if (nanoseconds !== null && nanoseconds >= min && nanoseconds <= max) return nanoseconds;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

/** Where to connect to: "127.0.0.1:7443", "[::1]:7443", "localhost:7443". Others: ADDRESS_NOT_LOOPBACK. */
export const loopbackAddress = address(1);
/** Where to listen: as loopbackAddress, and port 0 lets the system choose one. */
export const loopbackListenAddress = address(0);

/** Where to connect to by TLS: "receiver.example.org:7443", "192.0.2.1:7443", "[2001:db8::1]:7443". */
export const networkAddress = anyAddress(1, 'backup.example.org:7443');
/** Where to listen by TLS: port 0 lets the system choose one. */
export const networkListenAddress = anyAddress(0, '0.0.0.0:7443');

/** Takes "HOST:PORT" apart: null when it is not one. */
export function parseAddress(text: string, portMin: number): NetworkAddress | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < portMin || port > 65535) return null;
  return { host: match[1] ?? match[2] ?? '', port };
}

/** Takes "HOST:PORT" apart: null when it is not one, 'foreign' when the host is not this one. */
export function parseLoopback(text: string, portMin: number): LoopbackAddress | 'foreign' | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const port = Number(match[3]);
  if (port < portMin || port > 65535) return null;
  const host = match[1] ?? match[2] ?? '';
  if (host === 'localhost') return { host: '127.0.0.1', port };
  if (host === '::1') return { host, port };
  const bytes = host.split('.');
  const isIpv4 =
    bytes.length === 4 && bytes.every((byte) => /^(0|[1-9]\d{0,2})$/.test(byte) && Number(byte) < 256);
  return isIpv4 && bytes[0] === '127' ? { host, port } : 'foreign';
}

/** "127.0.0.1:7443", "[::1]:7443". */
export function formatAddress({ host, port }: NetworkAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function address(portMin: number) {
  const expected = `expected a loopback address with a port from ${portMin} to 65535, such as "127.0.0.1:7443"`;
  return z.string({ error: expected }).transform((input, context) => {
    const parsed = parseLoopback(input, portMin);
    if (parsed !== null && parsed !== 'foreign') return parsed;
    const code: ErrorCode = parsed === 'foreign' ? 'ADDRESS_NOT_LOOPBACK' : 'CONFIG_INVALID';
    context.addIssue({ code: 'custom', message: expected, params: { code } });
    return z.NEVER;
  });
}

function anyAddress(portMin: number, example: string) {
  const expected = `expected an address with a port from ${portMin} to 65535, such as "${example}"`;
  return z.string({ error: expected }).transform((input, context) => {
    const parsed = parseAddress(input, portMin);
    if (parsed !== null) return parsed;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

function withUnit(text: string, units: Units): bigint | null {
  const match = /^(\d{1,18})\s?([A-Za-z]+)$/.exec(text);
  const unit = units.get(match?.[2] ?? '');
  return match?.[1] === undefined || unit === undefined ? null : BigInt(match[1]) * unit;
}

function wholeNumber(input: number | bigint): bigint | null {
  if (typeof input === 'bigint') return input;
  return Number.isSafeInteger(input) ? BigInt(input) : null;
}

function formatBytesExactly(bytes: bigint): string {
  return inLargestUnit(bytes, BYTE_UNITS) ?? `${bytes}B`;
}
function formatNanosecondsExactly(nanoseconds: bigint): string {
  return inLargestUnit(nanoseconds, NANOSECOND_UNITS) ?? `${nanoseconds}ns`;
}
function inLargestUnit(value: bigint, units: Units): string | null {
  const fitting = [...units].filter(([, unit]) => value >= unit && value % unit === 0n);
  const largest = fitting.at(-1);
  return largest === undefined ? null : `${value / largest[1]}${largest[0]}`;
}
