/** Values as JSON keeps them: its own numbers end at 2^53, and it has no bytes. */
import { z } from 'zod';
/** A u64, as decimal text. */
export const decimal = z
    .string()
    .regex(/^(0|[1-9]\d{0,19})$/)
    .transform((text) => BigInt(text));
/** 16 bytes, as hexadecimal text. */
export const uuid = z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .transform((text) => Buffer.from(text, 'hex'));
/** What the schemas above read again. */
export function toJson(value) {
    if (typeof value === 'bigint')
        return value.toString();
    if (Buffer.isBuffer(value))
        return value.toString('hex');
    if (Array.isArray(value))
        return value.map(toJson);
    if (value === null || typeof value !== 'object')
        return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]));
}
//# sourceMappingURL=stored_values.js.map