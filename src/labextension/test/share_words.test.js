// What is asked and told of share links, in words.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { content, lifetimes, names, standing, uses } from '../build/lib/share_words.js';

const NOW = 1_800_000_000;
const share = {
  id: '0'.repeat(16), name: 'a.ipynb', kind: 'notebook', path: 'work/a.ipynb', audience: 'bob',
  expires_s: NOW + 3600, over: '', version: 2, size: 2048, left_out: 0, uses: []
};

test('lifetimes end at the ceiling of the facility', () => {
  const reach = { lifetime_min: 60, longest_min: 2880, groups: [], links: [] };
  assert.deepEqual(lifetimes(reach).map(one => one.minutes), [60, 240, 1440, 2880]);
  assert.deepEqual(lifetimes(reach).map(one => one.label), ['1 h', '4 h', '24 h', '48 h']);
  const short = { ...reach, lifetime_min: 30, longest_min: 90 };
  assert.deepEqual(lifetimes(short).map(one => one.minutes), [30, 60, 90]);
});

test('names as people type them', () => {
  assert.deepEqual(names(' bob, carol;bob\ndave '), ['bob', 'carol', 'dave']);
  assert.deepEqual(names('  '), []);
});

test('how long a link is good', () => {
  assert.match(standing(share, NOW), /^good until .*, 1 h more$/);
  assert.equal(standing({ ...share, over: 'revoked' }, NOW), 'revoked');
});

test('who opened it, the last one first', () => {
  const did = [
    { person: 'bob', what: 'looked', version: 1, at_s: NOW },
    { person: 'bob', what: 'opened', version: 2, at_s: NOW + 60 },
    { person: 'eve', what: 'refused', version: 2, at_s: NOW + 90 }
  ];
  const told = uses({ ...share, uses: did }, NOW);
  assert.match(told[0], /^eve was refused version 2, /);
  assert.match(told[1], /^bob has a copy of version 2, /);
  assert.match(told[2], /^bob looked at version 1, /);
});

test('what a link holds', () => {
  assert.equal(content(share), 'a.ipynb as it was last saved, 2 KiB');
  const large = { ...share, size: 3 * 1024 * 1024, left_out: 2 };
  assert.equal(
    content(large),
    'a.ipynb as it was last saved, 3.0 MiB; 2 hidden entries, links or special files were left out'
  );
});
