/** Values of a state file, as toJson() of stored_fields.ts writes them. */
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
  .transform((text): Buffer => Buffer.from(text, 'hex'));
