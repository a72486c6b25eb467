/**
 * Reads what a process of this or another version has put into the descriptor store, field by field. Not with the library
 * that reads configurations and states: to load it takes longer than all else that a successor does while production waits.
 */

/** Gives what `value`, which is at `at`, stands for. Throws an Error that says what is wrong with it. */
export type Field<T> = (value: unknown, at: string) => T;
type Fields = Record<string, Field<unknown>>;
type Read<F extends Fields> = { [K in keyof F]: ReturnType<F[K]> };

function wrong(at: string, wanted: string): never {
  throw new Error(`${at} is not ${wanted}`);
}

export const text: Field<string> = (value, at) => (typeof value === 'string' ? value : wrong(at, 'text'));

/** A whole number from `min` to `max`. */
export const whole =
  (min: number, max = Number.MAX_SAFE_INTEGER): Field<number> =>
  (value, at) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max
      ? value
      : wrong(at, `a whole number from ${min} to ${max}`);

/** A u64, as decimal text. */
export const decimal: Field<bigint> = (value, at) => {
  const isDecimal = typeof value === 'string' && /^(0|[1-9]\d{0,19})$/.test(value);
  return isDecimal && BigInt(value) < 1n << 64n ? BigInt(value) : wrong(at, 'a decimal number of 64 bits');
};

/** 16 bytes, as hexadecimal text. */
export const uuid: Field<Buffer> = (value, at) =>
  typeof value === 'string' && /^[0-9a-f]{32}$/.test(value) ? Buffer.from(value, 'hex') : wrong(at, 'a UUID');

export const oneOf =
  <T extends string>(...words: T[]): Field<T> =>
  (value, at) =>
    words.find((word) => word === value) ?? wrong(at, words.join(' or '));

/** What is absent is null. */
export const nullable =
  <T>(field: Field<T>): Field<T | null> =>
  (value, at) =>
    value === null || value === undefined ? null : field(value, at);

/** With these fields. Others are those of a later version, which would not have added them if they had to be known. */
export const record =
  <F extends Fields>(fields: F): Field<Read<F>> =>
  (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong(at, 'an object');
    const given = value as Record<string, unknown>;
    const read = Object.entries(fields).map(([key, field]) => [key, field(given[key], `${at}.${key}`)]);
    return Object.fromEntries(read) as Read<F>;
  };

/** One of several records, of which `key` says which. */
export const union =
  <K extends string, F extends Record<string, Field<unknown>>>(
    key: K,
    records: F,
  ): Field<{ [N in keyof F]: { [P in K]: N } & ReturnType<F[N]> }[keyof F]> =>
  (value, at) => {
    const given: unknown = value;
    if (typeof given !== 'object' || given === null) return wrong(at, 'an object');
    const { [key]: name, ...rest } = given as Record<string, unknown>;
    const found = typeof name === 'string' && Object.hasOwn(records, name) ? records[name] : undefined;
    if (found === undefined) return wrong(`${at}.${key}`, Object.keys(records).join(' or '));
    return { [key]: name, ...(found(rest, at) as object) } as never;
  };

/** As JSON keeps it, whose numbers end at 2^53, and which has no bytes: what the fields above read again. */
export function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map(toJson);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]));
}
