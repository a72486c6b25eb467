/**
 * The one way in and out of protobuf. protobufjs' own `encode` silently writes 0 for a bigint, so nothing else may
 * call it: here u64 fields are bigint on both sides, bytes are Buffers, enums are their names, an absent message
 * field is null, and every field is present.
 */
import { afterimage, grpc } from './gen/messages.js';
import { AfterimageError } from './errors.js';

interface GeneratedType {
  fromObject(object: Record<string, unknown>): unknown;
  toObject(message: unknown, options: Record<string, unknown>): Record<string, unknown>;
  encode(message: unknown): { finish(): Uint8Array };
  decode(bytes: Uint8Array): unknown;
}

export interface Codec<T> {
  encode(value: T): Buffer;
  /** Errors: MESSAGE_INVALID. Byte fields are views of `bytes`, which must not change while one of them is kept. */
  decode(bytes: Uint8Array): T;
}

const PACKAGES: Readonly<Record<string, Record<string, GeneratedType | undefined>>> = {
  'afterimage.v1': afterimage.v1 as never,
  'grpc.health.v1': grpc.health.v1,
};
const PACKAGE = 'afterimage.v1';
const toObjectOptions = { longs: BigInt, enums: String, bytes: Buffer, defaults: true, oneofs: true };
const U64_MAX = 2n ** 64n - 1n;

/** The codec of message `name`: of package afterimage.v1, unless it names another. */
export function codec<T extends object>(name: string): Codec<T> {
  const at = name.lastIndexOf('.');
  const type = PACKAGES[at < 0 ? PACKAGE : name.slice(0, at)]?.[name.slice(at + 1)];
  if (type === undefined) throw new Error(`no such message: ${name}`);
  return {
    encode(value) {
      assertUnsigned(value, name);
      const bytes = type.encode(type.fromObject(value as Record<string, unknown>)).finish();
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    decode(bytes) {
      try {
        return type.toObject(type.decode(bytes), toObjectOptions) as T;
      } catch (cause) {
        throw new AfterimageError('MESSAGE_INVALID', `${name}: ${String(cause)}`, { cause });
      }
    },
  };
}

/** A bigint outside u64 would wrap without a word. */
function assertUnsigned(value: unknown, path: string): void {
  if (typeof value === 'bigint') {
    if (value < 0n || value > U64_MAX) throw new RangeError(`${path}: ${value} is not a u64`);
  } else if (Array.isArray(value)) {
    value.forEach((item, index) => assertUnsigned(item, `${path}[${index}]`));
  } else if (value !== null && typeof value === 'object' && !(value instanceof Uint8Array)) {
    for (const [key, item] of Object.entries(value)) assertUnsigned(item, `${path}.${key}`);
  }
}
