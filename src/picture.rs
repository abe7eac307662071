//! Control-flow graphs as a picture (SVG): a graph for each function, one below the other.
//!
//! The crate `layout` places the blocks and routes the edges; this file draws them. An edge that is taken when a branch's
//! condition holds is green, the other one red, an edge back to a block that dominates it dashed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;
use zvm_ir::cfg::Cfg;
use zvm_ir::dot::block_text;
use zvm_ir::{Block, Func, Function, Labels, Module};

use crate::error::Error;

/// The most blocks of a function that are drawn: placing them takes time that grows with the third power of their number, and
/// nobody reads such a picture.
pub const BLOCK_LIMIT: usize = 250;

/// The height of a line of text and the width of a character, in pixels.
const LINE: f64 = 13.0;
const CHARACTER: f64 = 6.05;
const FONT_SIZE: usize = 10;

/// Space between text and its frame, and around each graph.
const PADDING: f64 = 6.0;
const MARGIN: f64 = 20.0;

/// The graphs of a module as an SVG document.
///
/// # Errors
/// `PictureTooLarge` when a function has more blocks than [`BLOCK_LIMIT`].
pub fn svg(module: &Module, labels: &Labels) -> Result<String, Error> {
    heat_map(module, labels, &BTreeMap::new())
}

/// The graphs with blocks shaded by how hot they are, from 0 to 1.
///
/// # Errors
/// As [`svg`].
pub fn heat_map(module: &Module, labels: &Labels, heat: &BTreeMap<(Func, Block), f64>) -> Result<String, Error> {
    for function in module.funcs.values() {
        if function.layout.len() > BLOCK_LIMIT {
            let (function, blocks) = (function.name.clone(), function.layout.len());
            return Err(Error::PictureTooLarge { function, blocks, limit: BLOCK_LIMIT });
        }
    }
    let (mut body, mut width, mut height) = (String::new(), 0.0f64, 0.0);
    for (func, function) in &module.funcs {
        let graph = graph(module, func, function, labels, heat);
        let label = labels.functions.get(&func).map(|label| format!("  ; {label}")).unwrap_or_default();
        let title = format!("@{}{label}", function.name);
        let y = height + MARGIN;
        push(&mut body, format_args!("<text x=\"{MARGIN}\" y=\"{y}\" class=\"title\">{}</text>\n", escaped(&title)));
        push(&mut body, format_args!("<g transform=\"translate({MARGIN} {y})\">\n{}</g>\n", graph.content));
        let titled = title.chars().count() as f64 * CHARACTER * 1.3;
        width = width.max(graph.size.x.max(titled) + 2.0 * MARGIN);
        height = y + graph.size.y + MARGIN;
    }
    let (width, height) = (width.ceil(), height.ceil());
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>text {{ font: {FONT_SIZE}px monospace; white-space: pre; }} .title {{ font-size: 13px; }}</style>\n\
         <defs><marker id=\"head\" markerWidth=\"8\" markerHeight=\"6\" refX=\"8\" refY=\"3\" orient=\"auto\">\
         <polygon points=\"0 0, 8 3, 0 6\" fill=\"context-stroke\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    ))
}

/// Places the blocks of a function.
fn graph(
    module: &Module,
    func: Func,
    function: &Function,
    labels: &Labels,
    heat: &BTreeMap<(Func, Block), f64>,
) -> Canvas {
    let cfg = Cfg::new(function);
    let mut graph = VisualGraph::new(Orientation::TopToBottom);
    let look = |color: &str| StyleAttr::new(Color::fast(color), 1, None, 0, FONT_SIZE);
    let mut nodes = BTreeMap::new();
    for &block in &function.layout {
        let text = block_text(module, func, block, labels);
        let columns = text.iter().map(|line| line.chars().count()).max().unwrap_or_default();
        let size = Point::new(columns as f64 * CHARACTER + 2.0 * PADDING, text.len() as f64 * LINE + 2.0 * PADDING);
        let shape = ShapeKind::new_box(&text.join("\n"));
        let mut style = look("black");
        style.fill_color = heat.get(&(func, block)).map(|&heat| shade(heat));
        nodes.insert(block, graph.add_node(Element::create(shape, style, Orientation::TopToBottom, size)));
    }
    for &from in &function.layout {
        // The crate takes one edge between two nodes.
        let mut edges: BTreeMap<Block, &str> = BTreeMap::new();
        let targets = function.targets(from);
        for (at, target) in targets.iter().enumerate() {
            let color = match (targets.len(), at) {
                (2, 0) => "green",
                (2, _) => "red",
                _ => "black",
            };
            edges.entry(target.block).and_modify(|both| *both = "black").or_insert(color);
        }
        for (to, color) in edges {
            let (Some(&start), Some(&end)) = (nodes.get(&from), nodes.get(&to)) else { continue };
            let back = cfg.is_reachable(from) && cfg.dominates(to, from);
            let style = if back { LineStyleKind::Dashed } else { LineStyleKind::Normal };
            let arrow = Arrow::new(LineEndKind::None, LineEndKind::Arrow, style, "", &look(color), &None, &None);
            graph.add_edge(arrow, start, end);
        }
    }
    let mut canvas = Canvas::default();
    if !nodes.is_empty() {
        graph.do_it(false, false, false, &mut canvas);
    }
    canvas
}

/// From white to red.
fn shade(heat: f64) -> Color {
    let rest = (255.0 * (1.0 - heat.clamp(0.0, 1.0))) as u32;
    Color::new(0xff00_00ff | rest << 16 | rest << 8)
}

/// What the crate draws on.
struct Canvas {
    content: String,
    size: Point,
    /// The corner of the frame that was drawn last: the next text stands in it.
    corner: Point,
}

impl Default for Canvas {
    fn default() -> Self {
        Self { content: String::new(), size: Point::zero(), corner: Point::zero() }
    }
}

impl Canvas {
    fn grow(&mut self, point: Point) {
        self.size = Point::new(self.size.x.max(point.x), self.size.y.max(point.y));
    }
}

impl RenderBackend for Canvas {
    fn draw_rect(&mut self, xy: Point, size: Point, look: &StyleAttr, _: Option<String>, _: Option<ClipHandle>) {
        self.corner = xy;
        self.grow(xy.add(size));
        let (x, y, width, height, color) = (xy.x, xy.y, size.x, size.y, look.line_color.to_web_color());
        let fill = look.fill_color.map_or_else(|| "white".to_owned(), |color| color.to_web_color());
        push(
            &mut self.content,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" stroke=\"{color}\"/>\n"
            ),
        );
    }

    fn draw_line(&mut self, start: Point, stop: Point, look: &StyleAttr, _: Option<String>) {
        self.draw_arrow(&[(start, stop), (stop, start)], false, (false, false), look, None, "");
    }

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {
        // No node is round.
    }

    fn draw_text(&mut self, _: Point, text: &str, _: &StyleAttr) {
        for (at, line) in text.lines().enumerate() {
            let (x, y) = (self.corner.x + PADDING, self.corner.y + PADDING + LINE * (at as f64 + 0.75));
            push(&mut self.content, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escaped(line)));
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        dashed: bool,
        head: (bool, bool),
        look: &StyleAttr,
        _: Option<String>,
        _: &str,
    ) {
        let [first, second, rest @ ..] = path else { return };
        for (point, control) in path {
            self.grow(*point);
            self.grow(*control);
        }
        let mut curve = format!("M {:.1} {:.1} C {:.1} {:.1}", first.0.x, first.0.y, first.1.x, first.1.y);
        // The control point of the second point lies before it, that of each further one too.
        push(&mut curve, format_args!(", {:.1} {:.1}, {:.1} {:.1}", second.0.x, second.0.y, second.1.x, second.1.y));
        for (control, point) in rest {
            push(&mut curve, format_args!(" S {:.1} {:.1}, {:.1} {:.1}", control.x, control.y, point.x, point.y));
        }
        let dash = if dashed { " stroke-dasharray=\"5,4\"" } else { "" };
        let start = if head.0 { " marker-start=\"url(#head)\"" } else { "" };
        let end = if head.1 { " marker-end=\"url(#head)\"" } else { "" };
        let color = look.line_color.to_web_color();
        push(
            &mut self.content,
            format_args!("<path d=\"{curve}\" fill=\"none\" stroke=\"{color}\"{dash}{start}{end}/>\n"),
        );
    }

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
