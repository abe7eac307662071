// Compiles contracts with solc and writes, for each, its runtime code and solc's functionDebugData, for
// `cargo bench -p zvm-frontend --bench functions`.
//
//     node benches/debug-data/compile.js [part of a name]
//
// npm packages (compilers and sources, package.json) are installed into target/debug-data, where the output goes as
// well; nothing of them is kept in the repository. The wrappers are those of the corpus (ZVM_CORPUS, or ../shared/corpus).
// Every source is compiled in four ways: by the legacy code generator and via IR, optimised and not. What does not
// compile (mostly because the stack is too deep without the optimiser) is said and left out. Files that are there are kept.

const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const root = path.join(__dirname, "..", "..");
const cache = path.join(root, "target", "debug-data");
const output = path.join(cache, "out");
const corpus = process.env.ZVM_CORPUS ?? path.join(root, "..", "shared", "corpus");

const VERSIONS = ["0.8.20", "0.8.28", "0.8.37"];

// Contracts of packages: import path, contract, package that provides it, compiler.
const CONTRACTS = [
  ["@openzeppelin/contracts/token/ERC20/presets/ERC20PresetMinterPauser.sol", "openzeppelin-4", "0.8.20"],
  ["@openzeppelin/contracts/token/ERC721/presets/ERC721PresetMinterPauserAutoId.sol", "openzeppelin-4", "0.8.28"],
  ["@openzeppelin/contracts/token/ERC1155/presets/ERC1155PresetMinterPauser.sol", "openzeppelin-4", "0.8.37"],
  ["@openzeppelin/contracts/governance/TimelockController.sol", "openzeppelin-4", "0.8.28"],
  ["@openzeppelin/contracts/finance/PaymentSplitter.sol", "openzeppelin-4", "0.8.20"],
  ["@openzeppelin/contracts/access/manager/AccessManager.sol", "@openzeppelin/contracts", "0.8.28"],
  ["@openzeppelin/contracts/finance/VestingWallet.sol", "@openzeppelin/contracts", "0.8.37"],
  ["@openzeppelin/contracts/governance/TimelockController.sol", "@openzeppelin/contracts", "0.8.37"],
  ["@openzeppelin/contracts/metatx/ERC2771Forwarder.sol", "@openzeppelin/contracts", "0.8.28"],
];

const MODES = {
  legacy: { optimizer: { enabled: false } },
  legacy_o: { optimizer: { enabled: true, runs: 200 } },
  ir: { optimizer: { enabled: false }, viaIR: true },
  ir_o: { optimizer: { enabled: true, runs: 200 }, viaIR: true },
};

function install() {
  fs.mkdirSync(output, { recursive: true });
  const wanted = fs.readFileSync(path.join(__dirname, "package.json"), "utf8");
  const there = path.join(cache, "package.json");
  if (fs.existsSync(there) && fs.readFileSync(there, "utf8") === wanted) return;
  fs.writeFileSync(there, wanted);
  execFileSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: cache, stdio: "inherit" });
}

const compilers = new Map();
function compiler(version) {
  if (!compilers.has(version)) compilers.set(version, require(path.join(cache, "node_modules", `solc-${version}`)));
  return compilers.get(version);
}

// The file of an import; `provider` stands for the package @openzeppelin/contracts.
function contents(name, provider) {
  const file = name.startsWith("@openzeppelin/contracts/") ? name.replace("@openzeppelin/contracts", provider) : name;
  return fs.readFileSync(path.join(cache, "node_modules", file), "utf8");
}

function jobs() {
  const jobs = [];
  const folder = path.join(corpus, "wrappers");
  const wrappers = fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [];
  if (wrappers.length === 0) console.error(`no wrappers at ${folder}`);
  wrappers.forEach((file, at) => {
    // The sources of these are for older compilers.
    if (file.startsWith("UniLib")) return;
    const name = path.basename(file, ".sol");
    // OpenZeppelin 5.7 needs a newer compiler than the oldest of the three.
    const version = file.startsWith("OZ5") ? VERSIONS[1 + (at % 2)] : VERSIONS[at % 3];
    jobs.push({ name, version, provider: "@openzeppelin/contracts", source: fs.readFileSync(path.join(folder, file), "utf8") });
  });
  for (const [file, provider, version] of CONTRACTS) {
    const name = `${path.basename(file, ".sol")}_${provider === "openzeppelin-4" ? 4 : 5}`;
    jobs.push({ name, version, provider, source: contents(file, provider), unit: file });
  }
  return jobs;
}

function compile(job, mode, settings) {
  const unit = job.unit ?? "wrapper.sol";
  const outputSelection = { [unit]: { "*": ["evm.deployedBytecode"] } };
  const input = { language: "Solidity", sources: { [unit]: { content: job.source } }, settings: { ...settings, outputSelection } };
  const read = (name) => {
    try {
      return { contents: contents(name, job.provider) };
    } catch (error) {
      return { error: String(error) };
    }
  };
  const result = JSON.parse(compiler(job.version).compile(JSON.stringify(input), { import: read }));
  const errors = (result.errors ?? []).filter((error) => error.severity === "error");
  if (errors.length > 0) throw new Error(errors[0].message.split("\n")[0]);
  const contracts = Object.values(result.contracts[unit]).map((contract) => contract.evm.deployedBytecode);
  const code = contracts.sort((a, b) => b.object.length - a.object.length)[0];
  const bytes = Buffer.from(code.object.replace(/__\$[0-9a-f]{34}\$__/g, "11".repeat(20)), "hex");
  // Immutables get a value, so that nothing is decided by their being zero.
  for (const places of Object.values(code.immutableReferences ?? {})) {
    for (const { start, length } of places) bytes.fill(0x11, start + length - 20, start + length);
  }
  return { name: job.name, solc: job.version, mode, runtime: bytes.toString("hex"), functions: code.functionDebugData };
}

// Whether the source, or one it imports, defines functions in inline assembly: solc lists none of those when it generates
// legacy code.
function assembly(job) {
  const seen = new Map();
  const visit = (name, text) => {
    if (seen.has(name)) return;
    seen.set(name, text);
    for (const [, file] of text.matchAll(/^\s*import\s[^;]*?["']([^"']+)["']/gm)) {
      const place = file.startsWith(".") ? path.posix.join(path.posix.dirname(name), file) : file;
      try {
        visit(place, contents(place, job.provider));
      } catch {
        // The compiler says so if it is needed.
      }
    }
  };
  visit(job.unit ?? "wrapper.sol", job.source);
  return [...seen.values()].some((text) =>
    [...text.matchAll(/assembly[^{;]*\{/g)].some(({ index }) => {
      let depth = 0;
      for (let at = text.indexOf("{", index); at < text.length; at++) {
        if (text[at] === "{") depth++;
        if (text[at] === "}" && --depth === 0) return /\bfunction\s+\w+\s*\(/.test(text.slice(index, at));
      }
      return false;
    }),
  );
}

install();
const only = process.argv[2] ?? "";
for (const job of jobs()) {
  for (const [mode, settings] of Object.entries(MODES)) {
    const file = path.join(output, `${job.name}__${job.version}__${mode}.json`);
    if (!file.includes(only) || fs.existsSync(file)) continue;
    try {
      const record = { ...compile(job, mode, settings), assembly: assembly(job) };
      fs.writeFileSync(`${file}.tmp`, JSON.stringify(record));
      fs.renameSync(`${file}.tmp`, file);
    } catch (error) {
      console.error(`${job.name} ${job.version} ${mode}: ${error.message}`);
    }
  }
}
