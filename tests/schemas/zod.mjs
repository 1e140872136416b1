// Writes zod.json: the JSON schemas of Zod's types and constraints, alone and in pairs.
//
//     npm install zod@4.6.7 && node tests/schemas/zod.mjs > tests/schemas/zod.json

import { z } from "zod";

const strings = {
  min: (s) => s.min(2),
  max: (s) => s.max(12),
  length: (s) => s.length(5),
  regex: (s) => s.regex(/^[A-Z]{2}-?[0-9]*$/),
  includes: (s) => s.includes("x"),
  startsWith: (s) => s.startsWith("a"),
  endsWith: (s) => s.endsWith("z"),
  lowercase: (s) => s.lowercase(),
  nonempty: (s) => s.nonempty(),
};
const numbers = {
  gt: (n) => n.gt(0),
  gte: (n) => n.gte(-3),
  lt: (n) => n.lt(100),
  lte: (n) => n.lte(50),
  multipleOf: (n) => n.multipleOf(5),
  positive: (n) => n.positive(),
  nonnegative: (n) => n.nonnegative(),
};
const arrays = {
  min: (a) => a.min(1),
  max: (a) => a.max(3),
  length: (a) => a.length(2),
  nonempty: (a) => a.nonempty(),
};
const formats = {
  email: z.email(),
  uuid: z.uuid(),
  guid: z.guid(),
  url: z.url(),
  httpUrl: z.httpUrl(),
  hostname: z.hostname(),
  base64: z.base64(),
  base64url: z.base64url(),
  nanoid: z.nanoid(),
  cuid: z.cuid(),
  cuid2: z.cuid2(),
  ulid: z.ulid(),
  ipv4: z.ipv4(),
  ipv6: z.ipv6(),
  cidrv4: z.cidrv4(),
  cidrv6: z.cidrv6(),
  date: z.iso.date(),
  time: z.iso.time(),
  datetime: z.iso.datetime(),
  datetimeOffset: z.iso.datetime({ offset: true }),
  duration: z.iso.duration(),
  emoji: z.emoji(),
  jwt: z.jwt(),
  e164: z.e164(),
  hex: z.hex(),
};
const Person = z.object({ name: z.string(), age: z.int().min(0).max(150) });
const Category = z.object({
  name: z.string(),
  get subcategories() {
    return z.array(Category);
  },
});
const others = {
  string: z.string(),
  number: z.number(),
  int: z.int(),
  int32: z.int32(),
  uint32: z.uint32(),
  float32: z.float32(),
  boolean: z.boolean(),
  null: z.null(),
  any: z.any(),
  unknown: z.unknown(),
  literal: z.literal("tuna"),
  literals: z.literal(["red", 3, true, null]),
  enum: z.enum(["salmon", "tuna"]),
  optional: z.object({ a: z.string().optional(), b: z.int() }),
  nullable: z.nullable(z.int()),
  nullish: z.object({ a: z.string().nullish() }),
  default: z.object({ a: z.string().default("tuna") }),
  object: Person,
  strictObject: z.strictObject({ a: z.string() }),
  looseObject: z.looseObject({ a: z.string() }),
  catchall: z.object({ a: z.string() }).catchall(z.int()),
  extend: Person.extend({ email: z.email() }),
  pick: Person.pick({ name: true }),
  partial: Person.partial(),
  tuple: z.tuple([z.string(), z.int(), z.boolean()]),
  variadic: z.tuple([z.string()], z.number()),
  union: z.union([z.string(), z.int()]),
  discriminatedUnion: z.discriminatedUnion("status", [
    z.object({ status: z.literal("success"), data: z.string() }),
    z.object({ status: z.literal("failed"), error: z.string() }),
  ]),
  nestedUnion: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("a"), of: z.discriminatedUnion("n", [
      z.object({ n: z.literal(1) }), z.object({ n: z.literal(2), more: z.boolean() }),
    ]) }),
    z.object({ kind: z.enum(["b", "c"]) }),
  ]),
  intersection: z.intersection(z.object({ a: z.int() }), z.object({ b: z.string() })),
  record: z.record(z.string(), z.number()),
  recordEnum: z.record(z.enum(["id", "email"]), z.string()),
  partialRecord: z.partialRecord(z.enum(["id", "email"]), z.string()),
  recordRegex: z.record(z.string().regex(/^x-[a-z]+$/), z.int()),
  recordUnion: z.record(z.union([z.literal("a"), z.literal("b")]), z.boolean()),
  recursive: Category,
  stringbool: z.object({ a: z.string().meta({ title: "A" }), b: z.int().describe("b") }),
  templateLiteral: z.templateLiteral(["id-", z.int(), z.enum(["px", "em"])]),
  readonly: z.object({ a: z.array(z.string()) }).readonly(),
  json: z.json(),
  reused: z.object({ a: Person, b: Person, c: z.array(Person) }),
};

function* alone(name, base, constraints) {
  for (const [key, apply] of Object.entries(constraints)) yield [`${name}.${key}`, apply(base)];
}

function* pairs(name, base, constraints) {
  const entries = Object.entries(constraints);
  for (let i = 0; i < entries.length; i++)
    for (let j = i + 1; j < entries.length; j++)
      yield [`${name}.${entries[i][0]}.${entries[j][0]}`, entries[j][1](entries[i][1](base))];
}

const found = {};
const all = [
  ...Object.entries(others),
  ...Object.entries(formats),
  ...alone("string", z.string(), strings),
  ...pairs("string", z.string(), strings),
  ...alone("number", z.number(), numbers),
  ...pairs("number", z.number(), numbers),
  ...pairs("int", z.int(), numbers),
  ...alone("array", z.array(z.int()), arrays),
  ...Object.entries(formats).map(([key, format]) => [`${key}.max`, format.max(60)]),
];
for (const [name, type] of all) {
  const member = name === "optional" || type instanceof z.ZodObject ? type : z.object({ a: type });
  const schema = z.toJSONSchema(member);
  delete schema.$schema;
  found[name] = schema;
}
console.log(JSON.stringify(found, null, 1));
